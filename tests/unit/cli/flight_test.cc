#include "cli/flight.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "cli/exit_code.h"
#include "worker/launch/flight_file.h"

namespace conclave::cli {
namespace {

using testing::HasSubstr;

class FlightTest : public testing::Test {
 protected:
  std::string Write(const std::string& bytes) {
    const std::string path = testing::TempDir() + "/flight-" + std::to_string(getpid());
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }
  int Tell(const std::string& path) {
    testing::internal::CaptureStderr();
    const int code = TellFlight(path, out_);
    errors_ = testing::internal::GetCapturedStderr();
    return code;
  }

  std::ostringstream out_;
  std::string errors_;
};

TEST_F(FlightTest, AFlightIsToldInWordsThatSteerNoTerminal) {
  worker::Flight flight;
  flight.account = "epoch 3: rank 1 (pid 9) was killed by signal 9 (SIGKILL)\nmore\n";
  flight.identity = "2 ranks";
  flight.ranks.resize(2);
  flight.ranks[1].last_words = "no \x1b[2Jmemory";
  const std::string path = Write(worker::EncodeFlight(flight));

  ASSERT_TRUE(IsFlight(path));
  ASSERT_EQ(Tell(path), kExitOk) << errors_;

  EXPECT_THAT(out_.str(), HasSubstr("epoch 3: rank 1 (pid 9) was killed by signal 9 (SIGKILL)\n"));
  EXPECT_THAT(out_.str(), HasSubstr("the group: 2 ranks\n"));
  EXPECT_THAT(out_.str(), HasSubstr("it said: no \\x1b[2Jmemory"));
  EXPECT_THAT(out_.str(), HasSubstr("--config FILE"));
}

TEST_F(FlightTest, ADamagedFlightIsTheFilesFault) {
  const std::string path = Write("FLIGHT2 and then nothing that fits");

  ASSERT_TRUE(IsFlight(path));
  EXPECT_EQ(Tell(path), kExitUsage);
  EXPECT_THAT(errors_, HasSubstr(path));
}

TEST_F(FlightTest, OtherFilesAreNone) {
  EXPECT_FALSE(IsFlight(Write("FLIGH")));
  EXPECT_FALSE(IsFlight(Write("{\"request\": {}}")));
  EXPECT_FALSE(IsFlight("/nowhere"));
}

}  // namespace
}  // namespace conclave::cli
