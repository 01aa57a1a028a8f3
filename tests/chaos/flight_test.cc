// A real group dies in mid-thought; what it did last is run again by the program itself.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "tests/chaos/asker.h"
#include "tests/chaos/question.h"
#include "tests/integration/cluster.h"

namespace conclave {
namespace {

using testing::HasSubstr;

class FlightTest : public testing::Test {
 protected:
  std::string FlightDirectory() const { return cluster_.folder() + "/flights"; }

  void Start(std::vector<std::string> settings = {}) {
    settings.push_back("launcher.flight_directory=" + FlightDirectory());
    settings.push_back("launcher.first_backoff=10ms");
    settings.push_back("launcher.max_backoff=10ms");
    settings.push_back("launcher.max_restarts=100");
    cluster_.StartWorker(settings);
    cluster_.StartRouter();
  }

  // Asks `questions`, the last of which meets the death of rank 1 after `tokens` of its tokens.
  // The dead group's flight.
  std::string KillInMidThought(int questions, int tokens) {
    Asker asker(cluster_.RouterAddress());
    // A kill that comes too late, after the last token, is no death in mid-thought.
    for (int tries = 0; tries < 20; ++tries) {
      EXPECT_TRUE(asker.AskOnceServed(Question(1)).status.ok());
      for (int i = 1; i < questions; ++i) {
        EXPECT_TRUE(asker.Ask(Question(i % 2)).status.ok());
      }
      int read = 0;
      bool killed = false;
      const Seen seen = asker.Ask(Question(0), [&](const v1::GenerateResponse& event) {
        read += event.agent_delta().tokens_size();
        if (killed || read < tokens) return;
        killed = true;
        const std::vector<pid_t> ranks = cluster_.Ranks();
        if (ranks.size() == 2) kill(ranks[1], SIGKILL);
      });
      EXPECT_TRUE(seen.status.ok()) << seen.status.error_message();
      // Twice when it is sent again to the group that is just going.
      if (seen.lost > 0) return LastFlight();
    }
    ADD_FAILURE() << "no kill met an answer: " << cluster_.worker().Output();
    return "";
  }

  // Their names are in order of time.
  std::string LastFlight() const {
    std::string last;
    std::error_code none;
    for (const auto& file : std::filesystem::directory_iterator(FlightDirectory(), none)) {
      last = std::max(last, file.path().string());
    }
    EXPECT_NE(last, "") << "no flight was kept";
    return last;
  }

  struct Run {
    int exit_code = 0;
    std::string output;
  };
  Run Replay(const std::string& flight, const std::vector<std::string>& settings = {}) {
    const std::string root = CONCLAVE_SOURCE_DIR;
    std::vector<std::string> arguments = {"--config", root + "/configs/worker.yaml",
                                          "--replay-flight", flight};
    std::vector<std::string> all = settings;
    all.push_back("model.directory=" + root + "/models/conclave-demo");
    for (const std::string& each : all) {
      arguments.push_back("--set");
      arguments.push_back(each);
    }
    const std::string log = cluster_.folder() + "/replay" + std::to_string(++replays_) + ".log";
    Program program("conclave-worker", arguments, log);
    const int exit_code = program.Wait(absl::Seconds(120));
    return {exit_code, program.Output()};
  }

  Cluster cluster_;
  int replays_ = 0;
};

TEST_F(FlightTest, AKilledGroupsStepsRunAgainWithEqualHashes) {
  Start();
  const std::string flight = KillInMidThought(2, 40);

  const Run run = Replay(flight);

  EXPECT_EQ(run.exit_code, 0) << run.output;
  EXPECT_THAT(run.output, HasSubstr("was killed by signal 9 (SIGKILL)"));
  EXPECT_THAT(run.output, HasSubstr("steps 1 to "));
  std::smatch found;
  ASSERT_TRUE(std::regex_search(
      run.output, found,
      std::regex("compared the hashes of (\\d+) steps, 1 to (\\d+): (\\d+) equal, 0 different")))
      << run.output;
  EXPECT_GT(std::stoi(found[1]), 40);
  EXPECT_EQ(found[1], found[2]) << "every completed step is compared";
  EXPECT_EQ(found[1], found[3]);
}

TEST_F(FlightTest, ARecordWithoutItsBeginningSaysWhatItCannotKnow) {
  Start({"launcher.flight_ring=64KiB"});
  const std::string flight = KillInMidThought(24, 40);

  const Run run = Replay(flight);

  const bool compared = run.output.find("no step's hash could be compared") == std::string::npos;
  EXPECT_EQ(run.exit_code, compared ? 0 : 4) << run.output;
  EXPECT_THAT(run.output, Not(HasSubstr("steps 1 to ")));
  EXPECT_THAT(run.output, HasSubstr("rest on what was computed before step"));
  EXPECT_THAT(run.output, Not(HasSubstr("differs")));
}

TEST_F(FlightTest, AnotherGroupOrADamagedFileIsRefused) {
  Start();
  const std::string flight = KillInMidThought(1, 5);
  std::string bytes = FileText(flight);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  const std::string damaged = cluster_.folder() + "/damaged";
  std::ofstream(damaged) << bytes;

  const Run other = Replay(flight, {"group.kv_tokens=32768"});
  const Run broken = Replay(damaged);

  EXPECT_EQ(other.exit_code, 1);
  EXPECT_THAT(other.output, HasSubstr("the flight is of a group with 2 ranks"));
  EXPECT_EQ(broken.exit_code, 1);
  EXPECT_THAT(broken.output, HasSubstr("is damaged or cut off"));
}

}  // namespace
}  // namespace conclave
