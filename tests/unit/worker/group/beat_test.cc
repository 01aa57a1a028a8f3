#include "worker/group/beat.h"

#include <absl/synchronization/notification.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "worker/group/patience.h"

namespace conclave::worker {
namespace {

constexpr absl::Duration kLong = absl::Seconds(60);

BeatOptions Fast(absl::Duration lost_after) {
  return {.interval = absl::Milliseconds(1),
          .silent_after = absl::Milliseconds(5),
          .lost_after = lost_after};
}

// Waits, for at most a minute, until `condition` holds.
template <typename Condition>
bool Eventually(Condition condition) {
  for (Patience left(kLong); !left.over();) {
    if (condition()) return true;
    std::this_thread::yield();
    left.Spend(left.Turn(), absl::Microseconds(10));
  }
  return false;
}

TEST(BeatTest, MovesTheRanksBeat) {
  RankCell cell;
  std::atomic<uint64_t> launcher{0};
  Beat beat(
      cell, launcher, [] {}, Fast(absl::InfiniteDuration()));

  EXPECT_TRUE(Eventually([&] { return cell.beat >= 3; }));
}

TEST(BeatTest, NoticesASilentLauncherAndItsReturn) {
  RankCell cell;
  std::atomic<uint64_t> launcher{0};
  Beat beat(
      cell, launcher, [] {}, Fast(absl::InfiniteDuration()));

  EXPECT_TRUE(Eventually([&] { return beat.launcher_silent(); }));
  EXPECT_TRUE(Eventually([&] {
    ++launcher;
    return !beat.launcher_silent();
  }));
}

TEST(BeatTest, TellsOnceThatTheLauncherIsLost) {
  RankCell cell;
  std::atomic<uint64_t> launcher{0};
  std::atomic<int> told{0};
  absl::Notification lost;
  {
    Beat beat(
        cell, launcher,
        [&] {
          if (told++ == 0) lost.Notify();
        },
        Fast(absl::Milliseconds(10)));
    ASSERT_TRUE(lost.WaitForNotificationWithTimeout(kLong));
    const uint64_t then = cell.beat;
    ASSERT_TRUE(Eventually([&] { return cell.beat > then + 20; }));
  }

  EXPECT_EQ(told, 1);
}

TEST(PatienceTest, APauseCostsOneTurn) {
  Patience patience(absl::Seconds(1));

  patience.Spend(patience.Turn(), absl::Hours(5));

  EXPECT_FALSE(patience.over());
}

TEST(PatienceTest, EndsAfterItsTurns) {
  Patience patience(absl::Milliseconds(120));
  int turns = 0;

  for (; !patience.over(); ++turns) patience.Spend(patience.Turn(), absl::Hours(5));

  EXPECT_EQ(turns, 3);
}

TEST(StillnessTest, CountsTurnsSinceTheLastMove) {
  Stillness stillness;

  EXPECT_EQ(stillness.Turn(0), 1);
  EXPECT_EQ(stillness.Turn(0), 2);
  EXPECT_EQ(stillness.Turn(9), 0);
  EXPECT_EQ(stillness.Turn(9), 1);
}

}  // namespace
}  // namespace conclave::worker
