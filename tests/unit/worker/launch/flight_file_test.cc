#include "worker/launch/flight_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <string>

#include "worker/group/bytes.h"
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

std::string ChecksumOf(const std::string& bytes) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char byte : bytes) hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001b3;
  ByteWriter out;
  out.Fixed(hash, 8);
  return out.Take();
}

Flight SomeFlight() {
  return {.account = "epoch 3: rank 1 died\n",
          .plans = {{.number = 8, .bytes = "eight"}, {.number = 9, .bytes = std::string(3, '\0')}},
          .identity = "two ranks",
          .ranks = {{.ready = true,
                     .step_begun = 9,
                     .step_done = 9,
                     .last_words = {},
                     .first_hash = 8,
                     .hashes = {80, 90}},
                    {.ready = true,
                     .step_begun = 9,
                     .step_done = 8,
                     .last_words = "no memory",
                     .first_hash = 8,
                     .hashes = {80}}}};
}

TEST_F(FlightFileTest, ADeadGroupsPlansAndCellsAreRecorded) {
  GroupMemory memory = *GroupMemory::Create({.tp = 2, .epoch = 3});
  ShmLeaderChannel channel(memory);
  ShmFollowerChannel follower(memory, 1);
  for (uint64_t number = 1; number <= 5; ++number) {
    ASSERT_TRUE(channel.Send(number, std::to_string(number), absl::Seconds(60)).ok());
    ASSERT_TRUE(follower.Receive().ok());
  }
  for (uint64_t number = 1; number <= 4; ++number) EndStep(memory.cell(1), number, 100 + number);
  BeginStep(memory.cell(1), 5, absl::Seconds(1));
  PutText("two ranks", memory.cell(1).identity);
  SayLastWords(memory.cell(1), "no memory");

  const Flight flight = RecordFlight(memory, "rank 1 died");

  ASSERT_EQ(flight.plans.size(), 5u);
  EXPECT_EQ(flight.plans[4].bytes, "5");
  EXPECT_THAT(flight.account, HasSubstr("epoch 3: rank 1 died"));
  EXPECT_THAT(flight.account, HasSubstr("step begun 5"));
  EXPECT_EQ(flight.identity, "two ranks");
  ASSERT_EQ(flight.ranks.size(), 2u);
  EXPECT_EQ(flight.ranks[0].HashOf(1), std::nullopt);
  EXPECT_EQ(flight.ranks[1].HashOf(1), 101u);
  EXPECT_EQ(flight.ranks[1].HashOf(4), 104u);
  EXPECT_EQ(flight.ranks[1].HashOf(5), std::nullopt);
  EXPECT_EQ(flight.ranks[1].last_words, "no memory");
}

TEST_F(FlightFileTest, HashesOfTheLastStepsAreKept) {
  GroupMemory memory = *GroupMemory::Create({.tp = 1});
  RankCell& cell = memory.cell(0);
  const uint64_t steps = 2 * cell.step_hashes.size() + 7;
  for (uint64_t number = 1; number <= steps; ++number) EndStep(cell, number, number * number);

  const Flight flight = RecordFlight(memory, "it died");

  EXPECT_EQ(flight.ranks[0].HashOf(steps), steps * steps);
  const uint64_t first = flight.ranks[0].first_hash;
  EXPECT_EQ(first, steps - cell.step_hashes.size() + 2);
  EXPECT_EQ(flight.ranks[0].HashOf(first), first * first);
  EXPECT_EQ(flight.ranks[0].HashOf(first - 1), std::nullopt);
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
  EXPECT_EQ(flight->identity, "two ranks");
  ASSERT_EQ(flight->ranks.size(), 2u);
  EXPECT_EQ(flight->ranks[0].HashOf(9), 90u);
  EXPECT_EQ(flight->ranks[1].step_begun, 9u);
  EXPECT_EQ(flight->ranks[1].last_words, "no memory");
  EXPECT_EQ(EncodeFlight(*flight), EncodeFlight(SomeFlight()));
}

TEST_F(FlightFileTest, AFileOfTheFirstFormatIsRead) {
  ByteWriter out;
  out.Fixed(0x31544847494c46, 8);  // "FLIGHT1"
  out.Text("epoch 3: rank 1 died\n");
  out.Unsigned(1);
  out.Unsigned(8);
  out.Text("eight");

  auto flight = DecodeFlight(out.Take());

  ASSERT_TRUE(flight.ok()) << flight.status();
  EXPECT_EQ(flight->plans[0].bytes, "eight");
  EXPECT_TRUE(flight->ranks.empty());
}

TEST_F(FlightFileTest, EveryCutAndEveryFlippedBitIsNoticed) {
  const std::string whole = EncodeFlight(SomeFlight());

  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_EQ(DecodeFlight(whole.substr(0, size)).status().code(),
              absl::StatusCode::kInvalidArgument)
        << size;
  }
  for (size_t bit = 0; bit < 8 * whole.size(); ++bit) {
    std::string damaged = whole;
    damaged[bit / 8] = static_cast<char>(damaged[bit / 8] ^ 1 << bit % 8);
    EXPECT_FALSE(DecodeFlight(damaged).ok()) << bit;
  }
}

// Whoever can damage a file can mend its checksum.
TEST_F(FlightFileTest, AnyBytesWithARightChecksumAreReadWithoutHarm) {
  std::mt19937_64 random(5);
  const std::string whole = EncodeFlight(SomeFlight());
  int read = 0;
  for (int round = 0; round < 50'000; ++round) {
    std::string bytes = whole.substr(0, whole.size() - 8);
    for (uint64_t changes = 1 + random() % 4; changes > 0; --changes) {
      bytes[8 + random() % (bytes.size() - 8)] = static_cast<char>(random());
    }
    if (random() % 4 == 0) bytes.resize(8 + random() % (bytes.size() - 8));
    const auto flight = DecodeFlight(bytes + ChecksumOf(bytes));
    read += flight.ok() ? 1 : 0;
    // What is read is what was there.
    if (flight.ok()) {
      EXPECT_EQ(EncodeFlight(*flight).size(), bytes.size() + 8);
    }
  }
  EXPECT_GT(read, 1000);
}

TEST_F(FlightFileTest, ADraftOfADeadLauncherIsRemoved) {
  std::filesystem::create_directories(directory_);
  std::ofstream(directory_ + "/flight-000000000001000000000-epoch-1.plans.draft") << "half";

  ASSERT_TRUE(WriteFlight(directory_, 4, 2, SomeFlight()).ok());

  const std::filesystem::directory_iterator files(directory_);
  EXPECT_EQ(std::distance(begin(files), end(files)), 1) << "a dead launcher's draft is still there";
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

// What the log says of it is UTF-8.
TEST(RankCellTest, CutsTextsThatDontFitBetweenTwoCharacters) {
  std::array<char, 8> text{};
  PutText("123456\xc3\xa9", text);
  EXPECT_EQ(TextOf(text), "123456");
  PutText("12345\xc3\xa9", text);
  EXPECT_EQ(TextOf(text), "12345\xc3\xa9");
  PutText("12345678", text);
  EXPECT_EQ(TextOf(text), "1234567");
}

}  // namespace
}  // namespace conclave::worker
