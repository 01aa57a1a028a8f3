#include "worker/launch/flight_replay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "common/status.h"
#include "worker/group/agreement.h"
#include "worker/group/plan_codec.h"
#include "worker/launch/flight_ledger.h"
#include "worker/launch/flight_watch.h"

namespace conclave::worker {
namespace {

using ::testing::HasSubstr;

constexpr int kRanks = 2;

GroupShape Shape() {
  return {.tp = kRanks,
          .vocab_size = 1000,
          .max_positions = 512,
          .max_slots = 4,
          .max_rows = 64,
          .max_samples = 4,
          .pools = {{.num_blocks = 8}},
          .weights_hash = "0123456789abcdef0123",
          .numerics = "cpu/plain/f32/kv-f32/v1"};
}

// A model whose every value depends on all that it attends to, kept where a rank keeps it.
class FakeRank {
 public:
  absl::StatusOr<StepResult> Run(const StepPlan& plan) {
    if (plan.number != ++last_number_)
      return InvalidArgument("step {} comes too early", plan.number);
    if (number_that_fails != 0 && plan.rows.size() == number_that_fails) {
      return Internal("the device is gone");
    }
    for (const SlotChange& change : plan.slots) {
      Slot& slot = slots_[change.slot];
      if (change.kind == SlotChange::Kind::kOpen) slot = {.open = true, .seed = change.seed};
      if (!slot.open) return InvalidArgument("slot {} is not open", change.slot);
      if (change.kind == SlotChange::Kind::kClose) slot = {};
      if (!change.blocks.empty()) {
        slot.blocks.insert(slot.blocks.end(), change.blocks[0].begin(), change.blocks[0].end());
      }
    }
    for (const BlockCopy& copy : plan.copies) {
      for (int i = 0; i < copy.tokens; ++i) kv_[copy.to][i] = kv_[copy.from][i];
    }
    std::vector<uint64_t> values;
    for (const Row& row : plan.rows) {
      Slot& slot = slots_[row.slot];
      if (!slot.open) return InvalidArgument("slot {} is not open", row.slot);
      uint64_t value =
          static_cast<uint64_t>(row.token == kPreviousSample ? slot.last_sample : row.token);
      for (int at = 0; at < row.position; ++at) {
        value = value * 31 + kv_[slot.blocks[at / kBlockTokens]][at % kBlockTokens];
      }
      kv_[slot.blocks[row.position / kBlockTokens]][row.position % kBlockTokens] = value;
      values.push_back(value);
    }
    StepResult result{.number = plan.number, .tokens = {}};
    for (const SampleRequest& sample : plan.samples) {
      Slot& slot = slots_[sample.slot];
      slot.last_sample = static_cast<TokenId>((values[sample.row] ^ slot.seed) % 997);
      result.tokens.push_back({.id = slot.last_sample});
    }
    return result;
  }

  size_t number_that_fails = 0;  // A step with that many rows.

 private:
  struct Slot {
    bool open = false;
    uint64_t seed = 0;
    std::vector<BlockId> blocks = {};
    TokenId last_sample = 0;
  };
  uint64_t last_number_ = 0;
  Slot slots_[4];
  uint64_t kv_[8][kBlockTokens] = {};
};

SlotChange Open(SlotId slot, std::vector<BlockId> blocks) {
  SlotChange change;
  change.kind = SlotChange::Kind::kOpen;
  change.slot = slot;
  change.seed = 77 + static_cast<uint64_t>(slot);
  change.blocks = {std::move(blocks)};
  return change;
}

SlotChange Close(SlotId slot) {
  SlotChange change;
  change.kind = SlotChange::Kind::kClose;
  change.slot = slot;
  return change;
}

// What an engine would send: slot 0 reads a prompt of 20 tokens into blocks 0 and 1 and goes on;
// slot 1 shares block 0; then both close, and slot 2 begins in other blocks.
std::vector<StepPlan> Course() {
  std::vector<StepPlan> plans(1);
  plans[0].slots = {Open(0, {0, 1}), Open(1, {0, 2})};
  for (int i = 0; i < 20; ++i) plans[0].rows.push_back({0, i, 5 + i});
  for (int i = 16; i < 20; ++i) plans[0].rows.push_back({1, i, 5 + i});
  plans[0].samples = {{19, 0, 0}, {23, 1, 0}};
  for (int step = 0; step < 6; ++step) {
    plans.push_back({});
    for (SlotId slot : {0, 1}) plans.back().rows.push_back({slot, 20 + step, kPreviousSample});
    plans.back().samples = {{0, 0, 1 + step}, {1, 1, 1 + step}};
  }
  plans.push_back({});
  plans.back().slots = {Close(0), Close(1), Open(2, {4})};
  for (int i = 0; i < 3; ++i) plans.back().rows.push_back({2, i, 9});
  plans.back().samples = {{2, 2, 0}};
  for (int step = 0; step < 5; ++step) {
    plans.push_back({});
    plans.back().rows = {{2, 3 + step, kPreviousSample}};
    plans.back().samples = {{0, 2, 1 + step}};
  }
  for (size_t i = 0; i < plans.size(); ++i) plans[i].number = i + 1;
  return plans;
}

// The flight of a group that ran `plans`; its last step was ended by no rank. `first`: plans before
// it were overwritten.
Flight Record(const std::vector<StepPlan>& plans, size_t first = 1,
              absl::Duration patience = absl::Seconds(5)) {
  Flight flight{.account = "epoch 4: rank 1 (pid 9) was killed by signal 9 (SIGKILL)\nmore\n",
                .plans = {},
                .identity = IdentityOf(Shape()),
                .ranks = std::vector<RankFlight>(kRanks)};
  FakeRank rank;
  for (const StepPlan& plan : plans) {
    if (plan.number >= first) {
      const TimedPlan timed{.plan = plan, .patience = patience};
      flight.plans.push_back({.number = plan.number, .bytes = EncodePlan(timed)});
    }
    for (RankFlight& each : flight.ranks) {
      each.ready = true;
      each.step_begun = plan.number;
    }
    if (plan.number == plans.size()) break;
    const uint64_t hash = AgreementHash(plan, *rank.Run(plan));
    for (RankFlight& each : flight.ranks) {
      each.step_done = plan.number;
      each.hashes.push_back(hash);
    }
  }
  return flight;
}

absl::StatusOr<FlightReplay> Replay(const Flight& flight, size_t rows_that_fail = 0) {
  FakeRank rank;
  rank.number_that_fails = rows_that_fail;
  return ReplayFlight(flight, Shape(), [&rank](const StepPlan& plan) { return rank.Run(plan); });
}

TEST(FlightReplayTest, AWholeRecordRunsAgainWithEqualHashes) {
  const auto replay = Replay(Record(Course()));

  ASSERT_TRUE(replay.ok()) << replay.status();
  EXPECT_TRUE(replay->ok());
  EXPECT_EQ(replay->run, 13);
  EXPECT_EQ(replay->compared, 12);  // Nobody ended the last one.
  EXPECT_EQ(replay->inexact, 0);
  EXPECT_EQ(replay->different, 0);
}

TEST(FlightReplayTest, ThePlanThatKillsARankIsFound) {
  const auto replay = Replay(Record(Course()), 3);

  ASSERT_TRUE(replay.ok()) << replay.status();
  EXPECT_FALSE(replay->ok());
  EXPECT_EQ(replay->failed_step, 8u);
  EXPECT_EQ(replay->run, 7);
  EXPECT_THAT(DescribeReplay(*replay), HasSubstr("step 8 fails: the device is gone"));
}

TEST(FlightReplayTest, EveryPlanIsAnnouncedBeforeItRuns) {
  std::vector<uint64_t> begun;
  FakeRank rank;

  const auto replay = ReplayFlight(
      Record(Course(), 3), Shape(), [&](const StepPlan& plan) { return rank.Run(plan); },
      [&](uint64_t number, absl::Duration patience) {
        begun.push_back(number);
        EXPECT_EQ(patience, absl::Seconds(5));
      });

  ASSERT_TRUE(replay.ok()) << replay.status();
  EXPECT_EQ(begun.front(), 3u);
  EXPECT_EQ(begun.back(), 13u);
}

TEST(FlightReplayTest, AHashThatDiffersIsNamed) {
  Flight flight = Record(Course());
  flight.ranks[1].hashes[4] ^= 1;

  const auto replay = Replay(flight);

  ASSERT_TRUE(replay.ok()) << replay.status();
  EXPECT_EQ(replay->different, 1);
  EXPECT_EQ(replay->difference->step, 5u);
  EXPECT_EQ(replay->difference->rank, 1);
  EXPECT_THAT(DescribeReplay(*replay), HasSubstr("step 5 differs: rank 1 reported"));
}

TEST(FlightReplayTest, WithoutItsBeginningARecordIsComparedFromWhereItIsExact) {
  const auto replay = Replay(Record(Course(), 4));

  ASSERT_TRUE(replay.ok()) << replay.status();
  EXPECT_TRUE(replay->ok()) << DescribeReplay(*replay);
  EXPECT_EQ(replay->first, 4u);
  EXPECT_EQ(replay->run, 10);
  EXPECT_EQ(replay->inexact, 4);  // Slots 0 and 1 were opened before.
  EXPECT_EQ(replay->first_compared, 8u);
  EXPECT_EQ(replay->compared, 5);
  EXPECT_THAT(DescribeReplay(*replay),
              HasSubstr("4 steps rest on what was computed before step 4"));
}

TEST(FlightReplayTest, KeysAndValuesFromBeforeTheRecordAreNotTakenForExact) {
  std::vector<StepPlan> plans = Course();
  plans[7].slots.back() = Open(2, {0, 4});  // Shares the prompt's first block.
  for (size_t i = 7; i < plans.size(); ++i) {
    for (Row& row : plans[i].rows) row.position += kBlockTokens;
  }

  const auto replay = Replay(Record(plans, 4));

  ASSERT_TRUE(replay.ok()) << replay.status();
  EXPECT_TRUE(replay->ok());
  EXPECT_EQ(replay->compared, 0);
  EXPECT_EQ(replay->inexact, 10);
  EXPECT_THAT(DescribeReplay(*replay), HasSubstr("no step's hash could be compared"));
}

TEST(FlightReplayTest, ACopiedBlockIsAsExactAsItsSource) {
  std::vector<StepPlan> plans = Course();
  plans[7].slots.back() = Open(2, {5, 4});
  plans[7].copies = {{.pool = 0, .from = 0, .to = 5, .tokens = kBlockTokens}};
  for (size_t i = 7; i < plans.size(); ++i) {
    for (Row& row : plans[i].rows) row.position += kBlockTokens;
  }

  const auto whole = Replay(Record(plans));
  const auto rest = Replay(Record(plans, 2));

  ASSERT_TRUE(whole.ok() && rest.ok());
  EXPECT_EQ(whole->compared, 12);
  EXPECT_EQ(rest->compared, 0);
}

TEST(FlightReplayTest, AnotherGroupsFlightIsRefused) {
  Flight flight = Record(Course());
  flight.identity = "3 ranks";

  const absl::Status refused = Replay(flight).status();

  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(MessageOf(refused)),
              HasSubstr("a group with 3 ranks; this one has 2 ranks"));
}

TEST(FlightReplayTest, WhatIsNoCourseOfPlansIsRefused) {
  Flight gap = Record(Course()), garbage = gap, empty = gap, old = gap;
  gap.plans.erase(gap.plans.begin() + 2);
  garbage.plans[3].bytes = "garbage";
  empty.plans.clear();
  old.ranks.clear();

  EXPECT_EQ(Replay(gap).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Replay(garbage).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Replay(empty).status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Replay(old).status().code(), absl::StatusCode::kFailedPrecondition);
}

// Runs the flight as the program does; what it printed, and how it ended.
struct Watched {
  FlightEnd end = FlightEnd::kEqual;
  std::string out, err;
};
Watched WatchFlight(const Flight& flight, const std::function<void(const StepPlan&)>& before) {
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  Watched watched;
  watched.end = WatchReplay(
      flight,
      [&before] {
        const auto rank = std::make_shared<FakeRank>();
        const RankStep step = [rank, &before](const StepPlan& plan) {
          before(plan);
          return rank->Run(plan);
        };
        return FlightGroup{.shape = Shape(), .step = step};
      },
      absl::Minutes(1));
  watched.out = ::testing::internal::GetCapturedStdout();
  watched.err = ::testing::internal::GetCapturedStderr();
  return watched;
}

TEST(FlightWatchTest, AFlightThatRunsWellEndsWell) {
  const Watched watched = WatchFlight(Record(Course()), [](const StepPlan&) {});

  EXPECT_EQ(watched.end, FlightEnd::kEqual) << watched.err;
  EXPECT_THAT(watched.out, HasSubstr("12 steps, 1 to 12: 12 equal, 0 different"));
}

// Nothing is known of such a flight: it must not look as if all were well.
TEST(FlightWatchTest, AFlightOfWhichNothingCanBeComparedDoesNotEndWell) {
  const Watched watched = WatchFlight(Record(Course(), 9), [](const StepPlan&) {});

  EXPECT_EQ(watched.end, FlightEnd::kNothing) << watched.err;
  EXPECT_THAT(watched.out, HasSubstr("no step's hash could be compared"));
}

TEST(FlightWatchTest, APlanThatKillsItsRankIsNamed) {
  const Watched watched = WatchFlight(Record(Course()), [](const StepPlan& plan) {
    if (plan.rows.size() == 3) raise(SIGKILL);
  });

  EXPECT_EQ(watched.end, FlightEnd::kFound);
  EXPECT_THAT(watched.out, HasSubstr("step 8 kills its rank: signal 9 (SIGKILL)"));
}

TEST(FlightWatchTest, APlanThatNeverEndsIsNamed) {
  const Flight flight = Record(Course(), 1, absl::Milliseconds(500));

  const Watched watched = WatchFlight(flight, [](const StepPlan& plan) {
    while (plan.rows.size() == 3) pause();
  });

  EXPECT_EQ(watched.end, FlightEnd::kFound);
  EXPECT_THAT(watched.out, HasSubstr("step 8 does not end within its deadline"));
}

TEST(FlightWatchTest, AGroupThatCannotBeMadeIsNoFinding) {
  Flight flight = Record(Course());
  flight.identity = "3 ranks\x1b[2J";

  const Watched watched = WatchFlight(flight, [](const StepPlan&) {});

  EXPECT_EQ(watched.end, FlightEnd::kUnusable);
  EXPECT_THAT(watched.err, HasSubstr("a group with 3 ranks\\x1b[2J"));
}

// Plans from a file may hold anything: the ledger never reads or writes outside itself.
TEST(FlightLedgerTest, AnyPlansAreTakenWithoutHarm) {
  std::mt19937 random(9);
  const auto some = [&random](int least, int most) {
    return std::uniform_int_distribution<int>(least, most)(random);
  };
  for (int round = 0; round < 2000; ++round) {
    FlightLedger ledger(Shape());
    for (uint64_t number = 1; number <= 8; ++number) {
      StepPlan plan;
      plan.number = number;
      for (int i = some(0, 3); i > 0; --i) {
        SlotChange change;
        change.kind = static_cast<SlotChange::Kind>(some(0, 3));
        change.slot = some(-1, 5);
        change.position = some(-5, 100);
        if (some(0, 1) == 1) change.blocks = {{some(-2, 9), some(0, 7)}};
        plan.slots.push_back(change);
      }
      for (int i = some(0, 2); i > 0; --i) {
        plan.copies.push_back({some(0, 1), some(-1, 9), some(-1, 9), some(-3, 20)});
      }
      for (int i = some(0, 5); i > 0; --i) {
        plan.rows.push_back({some(-1, 5), some(-3, 60), some(-1, 3)});
      }
      for (int i = some(0, 3); i > 0; --i) plan.samples.push_back({some(-2, 7), some(-1, 5), 0});

      const FlightLedger::Entry entry = ledger.Take(plan);

      EXPECT_LE(entry.known, entry.samples);
      EXPECT_LE(entry.plan.rows.size(), plan.rows.size());
    }
  }
}

}  // namespace
}  // namespace conclave::worker
