#include "worker/launch/flight_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "worker/group/shm_channel.h"

namespace conclave::worker {
namespace {

using ::testing::HasSubstr;

class FlightFileTest : public ::testing::Test {
 protected:
  FlightFileTest() { std::filesystem::remove_all(directory_); }
  ~FlightFileTest() override { std::filesystem::remove_all(directory_); }

  const std::string directory_ = ::testing::TempDir() + "flights-" +
                                 ::testing::UnitTest::GetInstance()->current_test_info()->name();
};

Flight SomeFlight() {
  return {.account = "epoch 3: rank 1 died\n",
          .plans = {{.number = 8, .bytes = "eight"}, {.number = 9, .bytes = std::string(3, '\0')}}};
}

TEST_F(FlightFileTest, ADeadGroupsPlansAndCellsAreRecorded) {
  GroupMemory memory = *GroupMemory::Create({.tp = 2, .epoch = 3});
  ShmLeaderChannel channel(memory);
  ShmFollowerChannel follower(memory, 1);
  for (uint64_t number = 1; number <= 5; ++number) {
    ASSERT_TRUE(channel.Send(number, std::to_string(number), absl::Seconds(60)).ok());
    ASSERT_TRUE(follower.Receive().ok());
  }
  BeginStep(memory.cell(1), 5, absl::Seconds(1));

  const Flight flight = RecordFlight(memory, "rank 1 died");

  ASSERT_EQ(flight.plans.size(), 5u);
  EXPECT_EQ(flight.plans[4].bytes, "5");
  EXPECT_THAT(flight.account, HasSubstr("epoch 3: rank 1 died"));
  EXPECT_THAT(flight.account, HasSubstr("step begun 5"));
}

TEST_F(FlightFileTest, WhatIsWrittenIsReadBack) {
  auto path = WriteFlight(directory_, 2, 3, SomeFlight());
  ASSERT_TRUE(path.ok()) << path.status();

  auto flight = ReadFlight(*path);

  ASSERT_TRUE(flight.ok()) << flight.status();
  EXPECT_EQ(flight->account, SomeFlight().account);
  ASSERT_EQ(flight->plans.size(), 2u);
  EXPECT_EQ(flight->plans[1].number, 9u);
  EXPECT_EQ(flight->plans[1].bytes, std::string(3, '\0'));
}

TEST_F(FlightFileTest, OnlyItsOwnerReadsIt) {
  auto path = WriteFlight(directory_, 2, 3, SomeFlight());
  ASSERT_TRUE(path.ok()) << path.status();
  struct stat file {};

  ASSERT_EQ(stat(path->c_str(), &file), 0);

  EXPECT_EQ(file.st_mode & 0777, 0600u);
}

TEST_F(FlightFileTest, TheNewestFilesAreKept) {
  std::string newest;
  for (uint64_t epoch = 1; epoch <= 5; ++epoch) {
    newest = *WriteFlight(directory_, 2, epoch, SomeFlight());
  }

  const std::filesystem::directory_iterator files(directory_);

  EXPECT_EQ(std::distance(begin(files), end(files)), 2);
  EXPECT_TRUE(std::filesystem::exists(newest));
}

TEST_F(FlightFileTest, OtherFilesAreLeftAlone) {
  std::filesystem::create_directories(directory_);
  std::ofstream(directory_ + "/a-note.txt") << "keep me";

  for (uint64_t epoch = 1; epoch <= 3; ++epoch) {
    ASSERT_TRUE(WriteFlight(directory_, 1, epoch, SomeFlight()).ok());
  }

  EXPECT_TRUE(std::filesystem::exists(directory_ + "/a-note.txt"));
}

TEST_F(FlightFileTest, AnotherFileIsNotAFlight) {
  std::filesystem::create_directories(directory_);
  std::ofstream(directory_ + "/other") << "something else entirely";

  EXPECT_EQ(ReadFlight(directory_ + "/other").status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(ReadFlight(directory_ + "/missing").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(FlightFileTest, ADirectoryThatCannotBeMadeIsAnError) {
  std::ofstream(directory_) << "a file is in the way";

  EXPECT_FALSE(WriteFlight(directory_ + "/inside", 1, 1, SomeFlight()).ok());
}

}  // namespace
}  // namespace conclave::worker
