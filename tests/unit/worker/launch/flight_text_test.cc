#include "worker/launch/flight_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/group/plan_codec.h"

namespace conclave::worker {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

SlotChange Open(SlotId slot, uint64_t seed, int agent, int prompt) {
  SlotChange change;
  change.slot = slot;
  change.seed = seed;
  change.agent = MakeAgentId(kThinkStage, 0, agent);
  change.position = prompt;
  change.blocks = {{slot}};
  return change;
}

// Two requests: three agents of seed 7 with a prompt of two tokens, one of seed 9 that still reads
// its prompt of thirty. They run `steps` steps after the first one.
std::vector<StepPlan> Course(int steps) {
  std::vector<StepPlan> plans(1);
  for (int slot = 0; slot < 3; ++slot) plans[0].slots.push_back(Open(slot, 7, slot, 2));
  plans[0].slots.push_back(Open(3, 9, 0, 30));
  plans[0].rows = {{0, 0, 5}, {0, 1, 6}};
  plans[0].samples = {{1, 0, 0}, {1, 1, 0}, {1, 2, 0}};
  for (int step = 0; step < steps; ++step) {
    plans.push_back({});
    for (SlotId slot = 0; slot < 3; ++slot) {
      plans.back().rows.push_back({slot, 2 + step, kPreviousSample});
      plans.back().samples.push_back({slot, slot, 1 + step});
    }
    for (int i = 0; i < 10; ++i) plans.back().rows.push_back({3, 10 * step + i, 8});
  }
  for (size_t i = 0; i < plans.size(); ++i) plans[i].number = i + 1;
  return plans;
}

// `first`: plans before it were overwritten.
Flight Record(const std::vector<StepPlan>& plans, uint64_t first = 1) {
  Flight flight;
  flight.account = "epoch 4: rank 1 (pid 9) was killed by signal 9 (SIGKILL)\nmore\n";
  flight.identity = "2 ranks, weights f00d";
  flight.ranks.resize(2);
  for (const StepPlan& plan : plans) {
    for (RankFlight& rank : flight.ranks) {
      rank.ready = true;
      rank.step_begun = plan.number;
      rank.step_done = plan.number - 1;
    }
    if (plan.number < first) continue;
    const TimedPlan timed{.plan = plan, .patience = absl::Seconds(5)};
    flight.plans.push_back({.number = plan.number, .bytes = EncodePlan(timed)});
  }
  return flight;
}

TEST(FlightTextTest, TheGroupItsLossAndItsRanksAreTold) {
  Flight flight = Record(Course(2));
  flight.ranks[0].step_done = 3;
  flight.ranks[1].last_words = "step 3: no memory";

  const std::string words = DescribeFlight(flight);

  EXPECT_THAT(words, HasSubstr("epoch 4: rank 1 (pid 9) was killed by signal 9 (SIGKILL)\n"));
  EXPECT_THAT(words, HasSubstr("the group: 2 ranks, weights f00d\n"));
  EXPECT_THAT(words, HasSubstr("rank 0: had ended step 3 and was in none\n"));
  EXPECT_THAT(words, HasSubstr("rank 1: had ended step 2 and was in step 3; it said: step 3: no"));
  EXPECT_THAT(words, HasSubstr("steps 1 to 3 are kept\n"));
  EXPECT_THAT(words, Not(HasSubstr("more\n")));
}

TEST(FlightTextTest, TheLastStepIsToldByRequestAndAgent) {
  Flight flight = Record(Course(2));
  flight.ranks[0].step_done = 3;

  EXPECT_THAT(DescribeFlight(flight),
              EndsWith("step 3 (may take 5s), 13 rows, 3 samples; rank 0 had ended it, rank 1 had "
                       "not\n"
                       "  seed 7: agents 1-3 at token 2\n"
                       "  seed 9: agent 1 in the prompt, at tokens 11-20\n"));
}

TEST(FlightTextTest, WhatAStepChangesIsTold) {
  EXPECT_THAT(DescribeFlight(Record(Course(0))),
              HasSubstr("step 1 (may take 5s), opens slots 0-3, 2 rows, 3 samples; no rank had "
                        "ended it\n  seed 7: agent 1 in the prompt, at tokens 1-2\n"));
}

TEST(FlightTextTest, SlotsFromBeforeTheRecordAreOnlyNumbers) {
  EXPECT_THAT(DescribeFlight(Record(Course(2), 3)),
              EndsWith("  slots 0-3, opened before the record: 13 rows\n"));
}

TEST(FlightTextTest, NoMoreThanTheLastStepsAreTold) {
  const std::string words = DescribeFlight(Record(Course(40), 1));

  EXPECT_THAT(words, HasSubstr("\nstep 41 "));
  EXPECT_THAT(words, Not(HasSubstr("\nstep 40 "))) << "every rank had ended it";
  Flight stuck = Record(Course(40));
  stuck.ranks[1].step_done = 3;
  EXPECT_THAT(DescribeFlight(stuck), HasSubstr("\nstep 38 "));
  EXPECT_THAT(DescribeFlight(stuck), Not(HasSubstr("\nstep 37 ")));
}

TEST(FlightTextTest, AGroupThatNeverRanAStepIsToldToo) {
  Flight flight = Record(Course(0));
  flight.plans.clear();
  flight.ranks[1].ready = false;

  EXPECT_THAT(DescribeFlight(flight), HasSubstr("rank 1: was loading\n"));
  EXPECT_THAT(DescribeFlight(flight), EndsWith("no step was begun\n"));
}

TEST(FlightTextTest, APlanThatCannotBeReadIsNamed) {
  Flight flight = Record(Course(1));
  flight.plans[1].bytes = "garbage";

  EXPECT_THAT(DescribeFlight(flight), HasSubstr("\nplan 2: "));
}

}  // namespace
}  // namespace conclave::worker
