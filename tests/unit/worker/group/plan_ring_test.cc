#include "worker/group/plan_ring.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace conclave::worker {
namespace {

struct RingOf4k {
  RingMarks marks;
  std::vector<std::byte> bytes = std::vector<std::byte>(4096);
  PlanRing ring{marks, bytes};

  void Append(uint64_t number, const std::string& piece) { ring.Append(number, 0, true, piece); }
};

TEST(PlanRingTest, AReaderFindsPiecesInOrder) {
  RingOf4k it;
  it.Append(1, "first");
  it.Append(2, "");
  uint64_t position = 0;

  auto first = it.ring.Read(position);
  auto second = it.ring.Read(position);
  auto none = it.ring.Read(position);

  ASSERT_TRUE(first.ok() && second.ok() && none.ok());
  EXPECT_EQ((*first)->bytes, "first");
  EXPECT_EQ((*second)->number, 2u);
  EXPECT_FALSE(none->has_value());
}

TEST(PlanRingTest, RoomEndsWhereTheSlowestReaderStands) {
  RingOf4k it;
  const std::string piece(900, 'a');
  int appended = 0;

  while (it.ring.HasRoom(piece.size(), 0)) it.Append(static_cast<uint64_t>(++appended), piece);
  uint64_t position = 0;
  ASSERT_TRUE(it.ring.Read(position).ok());

  EXPECT_EQ(appended, 4);
  EXPECT_TRUE(it.ring.HasRoom(piece.size(), position));
}

TEST(PlanRingTest, HistoryIsTheLastMessagesThatFit) {
  RingOf4k it;
  std::mt19937 random(3);

  for (uint64_t number = 1; number <= 500; ++number) {
    it.Append(number, std::string(random() % 300, static_cast<char>('a' + number % 26)));
  }
  const std::vector<RingMessage> history = it.ring.History();

  ASSERT_GT(history.size(), 10u);
  EXPECT_EQ(history.back().number, 500u);
  for (size_t i = 1; i < history.size(); ++i) {
    EXPECT_EQ(history[i].number, history[i - 1].number + 1);
  }
}

TEST(PlanRingTest, HistoryJoinsPartsAndLeavesOutWhatIsNotWhole) {
  RingOf4k it;
  it.ring.Append(7, 1, true, "end of a message whose beginning is gone");
  it.ring.Append(8, 0, false, "left ");
  it.ring.Append(8, 1, true, "right");
  it.ring.Append(9, 0, false, "never finished");

  const std::vector<RingMessage> history = it.ring.History();

  ASSERT_EQ(history.size(), 1u);
  EXPECT_EQ(history[0].number, 8u);
  EXPECT_EQ(history[0].bytes, "left right");
}

TEST(PlanRingTest, ADamagedRecordIsNoticed) {
  RingOf4k it;
  it.Append(1, "something");
  it.bytes[34] ^= std::byte{1};
  uint64_t position = 0;

  EXPECT_EQ(it.ring.Read(position).status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(position, 0u);
}

TEST(PlanRingTest, AnyGarbageInTheRingIsReadWithoutHarm) {
  std::mt19937_64 random(11);

  for (int round = 0; round < 300; ++round) {
    RingOf4k it;
    for (uint64_t number = 1; number <= 40; ++number) it.Append(number, std::string(200, 'x'));
    for (int i = 0; i < 200; ++i) {
      it.bytes[random() % 4096] = static_cast<std::byte>(random());
    }
    it.marks.oldest = it.marks.oldest + random() % 64;

    EXPECT_LE(it.ring.History().size(), 40u);
  }
}

}  // namespace
}  // namespace conclave::worker
