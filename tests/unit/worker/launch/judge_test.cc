#include "worker/launch/judge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <vector>

#include "worker/launch/rank_flags.h"

namespace conclave::worker {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr absl::Duration kTick = absl::Milliseconds(100);
constexpr JudgeLimits kLimits{.first_beat = absl::Seconds(30),
                              .beat = absl::Seconds(1),
                              .loop = absl::Seconds(5),
                              .ready = absl::Minutes(2)};

// Two healthy ranks, seen tick by tick. A test spoils one of them.
class JudgeTest : public ::testing::Test {
 protected:
  JudgeTest() {
    for (int rank = 0; rank < 2; ++rank) {
      ranks_[rank].pid = 100 + rank;
      ranks_[rank].ready = true;
      ranks_[rank].beat = 1;
    }
  }

  // Ticks during which both beats move, until a verdict; at most `most`.
  std::optional<Loss> Ticks(int most, bool beat_0 = true, bool beat_1 = true) {
    for (ticks_ = 1; ticks_ <= most; ++ticks_) {
      if (beat_0) ++ranks_[0].beat;
      if (beat_1) ++ranks_[1].beat;
      if (auto loss = judge_.Turn(ranks_)) return loss;
    }
    return std::nullopt;
  }

  std::vector<RankSight> ranks_ = std::vector<RankSight>(2);
  Judge judge_{2, kTick, kLimits};
  int ticks_ = 0;
};

TEST_F(JudgeTest, LetsAHealthyGroupLive) { EXPECT_FALSE(Ticks(100'000).has_value()); }

TEST_F(JudgeTest, EndsTheGroupWithinASecondOfTheLastBeat) {
  ASSERT_FALSE(Ticks(20).has_value());

  const auto loss = Ticks(100, true, false);

  // The last beat may have come just after the tick before: that is one tick more, and another one
  // is left for lateness.
  ASSERT_TRUE(loss.has_value());
  EXPECT_EQ(loss->rank, 1);
  EXPECT_LE((ticks_ + 2) * kTick, kLimits.beat);
  EXPECT_EQ(loss->reason, "rank 1 (pid 101) has not moved its beat for 800ms");
}

TEST_F(JudgeTest, BeatsThatComeRarelyOnABusyMachineAreEnough) {
  for (int i = 0; i < 1000; ++i) {
    ASSERT_FALSE(Ticks(7, false, false).has_value());
    ASSERT_FALSE(Ticks(1).has_value());
  }
}

TEST_F(JudgeTest, APauseOfTheMachineIsOneTick) {
  // However long it lasted, the launcher saw one tick without a beat; then the beats go on.
  for (int pause = 0; pause < 50; ++pause) {
    ASSERT_FALSE(Ticks(1, false, false).has_value());
    ASSERT_FALSE(Ticks(3).has_value());
  }
}

TEST_F(JudgeTest, AProcessHasLongerUntilItsFirstBeat) {
  ranks_[0].beat = 0;
  ranks_[0].ready = false;

  const auto loss = Ticks(1000, false, true);

  ASSERT_TRUE(loss.has_value());
  EXPECT_EQ(ticks_, 298);
}

TEST_F(JudgeTest, AProcessThatIsStoppedBeforeItsFirstBeatHasNoLonger) {
  ranks_[0].beat = 0;
  ranks_[0].ready = false;
  ASSERT_FALSE(Ticks(100, false, true).has_value());
  ranks_[0].stopped = true;

  const auto loss = Ticks(1000, false, true);

  ASSERT_TRUE(loss.has_value());
  EXPECT_LE((ticks_ + 2) * kTick, kLimits.beat);
  EXPECT_EQ(loss->reason, "rank 0 (pid 100) has been stopped for 800ms");
}

TEST_F(JudgeTest, ARankThatWasSilentAWhileBeforeItWasStoppedIsSaidToBeStopped) {
  // A busy machine: its beats were late already when the stop came.
  ASSERT_FALSE(Ticks(20).has_value());
  ASSERT_FALSE(Ticks(4, true, false).has_value());
  ranks_[1].stopped = true;

  const auto loss = Ticks(100, true, false);

  ASSERT_TRUE(loss.has_value());
  EXPECT_EQ(loss->reason, "rank 1 (pid 101) has been stopped for 400ms");
}

TEST_F(JudgeTest, AStopThatIsTakenBackInTimeIsForgiven) {
  for (int i = 0; i < 100; ++i) {
    ranks_[1].stopped = true;
    ASSERT_FALSE(Ticks(7, true, false).has_value());
    ranks_[1].stopped = false;
    ASSERT_FALSE(Ticks(1).has_value());
  }
}

TEST_F(JudgeTest, ARankMustBecomeReady) {
  ranks_[1].ready = false;

  const auto loss = Ticks(5000);

  ASSERT_TRUE(loss.has_value());
  EXPECT_EQ(loss->rank, 1);
  EXPECT_EQ(ticks_, 1200);
}

TEST_F(JudgeTest, AStepMayTakeUntilItsDeadline) {
  ranks_[1].step_begun = 8;
  ranks_[1].step_done = 7;
  ranks_[1].step_patience = absl::Seconds(6);
  EXPECT_FALSE(Ticks(60).has_value());

  const auto loss = Ticks(10);

  ASSERT_TRUE(loss.has_value());
  EXPECT_THAT(loss->reason, HasSubstr("is late with step 8"));
}

TEST_F(JudgeTest, StepsThatFollowEachOtherAreCountedApart) {
  ranks_[0].step_patience = absl::Seconds(1);

  for (uint64_t step = 1; step <= 20; ++step) {
    ranks_[0].step_begun = step;
    ranks_[0].step_done = step - 1;
    ASSERT_FALSE(Ticks(9).has_value());
  }
}

TEST_F(JudgeTest, AnIdleRankIsNotLate) {
  ranks_[0].step_begun = ranks_[0].step_done = 8;
  ranks_[0].step_patience = absl::Milliseconds(1);

  EXPECT_FALSE(Ticks(1000).has_value());
}

TEST_F(JudgeTest, EndsTheGroupWhenALoopStandsStillForFiveSeconds) {
  ranks_[0].engine_turns = 3;

  const auto loss = Ticks(1000);

  ASSERT_TRUE(loss.has_value());
  EXPECT_THAT(loss->reason, HasSubstr("engine's loop"));
  EXPECT_EQ(ticks_, 51);
}

TEST_F(JudgeTest, AServiceLoopIsWatchedToo) {
  ranks_[0].service_turns = 3;

  const auto loss = Ticks(1000);

  ASSERT_TRUE(loss.has_value());
  EXPECT_THAT(loss->reason, HasSubstr("service's loop"));
}

TEST_F(JudgeTest, ALoopMayWaitForTheRunningStep) {
  ranks_[0].engine_turns = 3;
  ranks_[0].step_begun = 1;
  ranks_[0].step_patience = absl::Seconds(20);

  EXPECT_FALSE(Ticks(200).has_value());
}

TEST_F(JudgeTest, ALoopThatNeverTurnedIsNotJudged) { EXPECT_FALSE(Ticks(1000).has_value()); }

TEST_F(JudgeTest, AnExitEndsTheGroupAtOnce) {
  ranks_[1].exit = RankExit{.signal = 9};

  const auto loss = Ticks(1);

  ASSERT_TRUE(loss.has_value());
  EXPECT_EQ(loss->reason, "rank 1 (pid 101) was killed by signal 9 (SIGKILL)");
}

TEST_F(JudgeTest, LastWordsAreQuoted) {
  ranks_[0].exit = RankExit{.code = 1};
  ranks_[0].last_words = "step 7: the device is gone";

  EXPECT_EQ(FindExit(ranks_)->reason,
            "rank 0 (pid 100) exited with code 1: step 7: the device is gone");
}

TEST_F(JudgeTest, AKilledProcessIsRatherTheCauseThanOneThatExited) {
  ranks_[0].exit = RankExit{.code = 1};
  ranks_[1].exit = RankExit{.signal = 11};

  EXPECT_EQ(FindExit(ranks_)->rank, 1);
}

TEST_F(JudgeTest, AnExitIsRatherTheCauseThanASilence) {
  Ticks(7, false, true);
  ranks_[1].exit = RankExit{.code = 1};

  const auto loss = Ticks(1, false, true);

  ASSERT_TRUE(loss.has_value());
  EXPECT_THAT(loss->reason, StartsWith("rank 1"));
}

TEST(LookAtTest, ReadsWhatTheRankWrote) {
  RankCell cell;
  cell.beat = 4;
  cell.ready = 1;
  cell.engine_turns = 6;
  BeginStep(cell, 3, absl::Seconds(7));

  const RankSight sight = LookAt(cell);

  EXPECT_EQ(sight.beat, 4u);
  EXPECT_TRUE(sight.ready);
  EXPECT_EQ(sight.engine_turns, 6u);
  EXPECT_EQ(sight.step_begun, 3u);
  EXPECT_EQ(sight.step_done, 0u);
  EXPECT_EQ(sight.step_patience, absl::Seconds(7));
}

// A rank of several hosts that lost a peer: that the peer was killed is heard of a moment later.
TEST_F(JudgeTest, ARankThatEndedForAPeersSakeIsNotTheCause) {
  ranks_[0].exit = RankExit{.code = kPeerLostExit};
  EXPECT_FALSE(FindExit(ranks_).has_value());
  ASSERT_FALSE(Ticks(5, false, true).has_value());

  ranks_[1].exit = RankExit{.signal = SIGKILL};

  EXPECT_EQ(FindExit(ranks_)->rank, 1);
  EXPECT_EQ(Ticks(1, false, false)->rank, 1);
}

TEST_F(JudgeTest, ARankThatEndedForAPeersSakeIsALossWhenNoOtherCauseShows) {
  ranks_[0].exit = RankExit{.code = kPeerLostExit};
  ranks_[0].last_words = "the leader is lost";

  const auto loss = Ticks(100, false, true);

  ASSERT_TRUE(loss.has_value());
  EXPECT_LE((ticks_ + 2) * kTick, kLimits.beat);
  EXPECT_EQ(loss->reason, "rank 0 (pid 100) exited with code 69: the leader is lost");
}

}  // namespace
}  // namespace conclave::worker
