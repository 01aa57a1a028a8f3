#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "tests/unit/worker/engine/engine_fixture.h"

namespace conclave::worker {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kSeed = 5;

GroupShape ShapeOf(int blocks) {
  GroupShape shape = SmallShape();
  shape.pools = {{.num_blocks = blocks}};
  return shape;
}

AgentId Id(int index) { return MakeAgentId(kThinkStage, 0, index); }

// An agent that shares no block with agents of another index.
AgentPlan Lonely(int index, int grant, int run_to = INT32_MAX) {
  AgentPlan plan;
  plan.id = Id(index);
  plan.prompt = Prompt(4, 100 * (index + 1));
  plan.grant = grant;
  plan.run_to = run_to;
  return plan;
}

class PreemptionTest : public testing::TestWithParam<int> {
 protected:
  EngineFixture Group(int blocks) { return EngineFixture(ShapeOf(blocks), Options()); }
  static EngineOptions Options() { return {.plans_in_flight = GetParam()}; }

  static void ExpectAsAlone(const EngineFixture::Opened& family, const AgentPlan& plan) {
    const Expected alone = RunAlone(plan, kSeed, SmallShape().vocab_size);
    EXPECT_EQ(family.sink->tokens(plan.id), alone.tokens) << IndexOf(plan.id);
    ASSERT_TRUE(family.sink->end(plan.id).has_value());
    EXPECT_EQ(family.sink->end(plan.id)->finish, alone.end.finish);
  }

  static void RunUntilPreempted(EngineFixture& group) {
    while (group.core->load().preemptions == 0) ASSERT_TRUE(group.Turn());
  }
};

TEST_P(PreemptionTest, WithinAFamilyTheAgentFurthestAheadGivesWay) {
  EngineFixture group = Group(8);
  const auto family = group.Open(kSeed);
  const AgentPlan ahead = Lonely(0, 80), behind = Lonely(1, 80);
  family.stream->Add(Specs({ahead}));
  for (int i = 0; i < 20; ++i) group.Turn();
  family.stream->Add(Specs({behind}));
  RunUntilPreempted(group);
  group.Turn();  // A token that was in flight may still come.
  const int count = family.sink->count(ahead.id), other = family.sink->count(behind.id);

  for (int i = 0; i < 10; ++i) group.Turn();

  EXPECT_EQ(family.sink->count(ahead.id), count);
  EXPECT_EQ(family.sink->count(behind.id), other + 10);
  group.RunDry();
  ExpectAsAlone(family, ahead);
  ExpectAsAlone(family, behind);
}

TEST_P(PreemptionTest, AnOlderFamilyKeepsItsRoomHoweverFarAheadItIs) {
  EngineFixture group = Group(8);
  const auto older = group.Open(kSeed), younger = group.Open(kSeed);
  const AgentPlan ahead = Lonely(0, 80), behind = Lonely(1, 80);
  older.stream->Add(Specs({ahead}));
  for (int i = 0; i < 20; ++i) group.Turn();
  younger.stream->Add(Specs({behind}));
  RunUntilPreempted(group);
  group.Turn();
  const int count = younger.sink->count(behind.id);

  while (!older.sink->end(ahead.id).has_value()) {
    ASSERT_TRUE(group.Turn());
    EXPECT_EQ(younger.sink->count(behind.id), count);
  }

  group.RunDry();
  ExpectAsAlone(older, ahead);
  ExpectAsAlone(younger, behind);
}

// `waiting` stands at run_to and loses its blocks to `growing`, which then stands at run_to too.
struct Preempted {
  EngineFixture group;
  AgentPlan waiting = Lonely(0, 70, 60), growing = Lonely(1, 100, 90);
  EngineFixture::Opened older, younger;

  explicit Preempted(const EngineOptions& options) : group(ShapeOf(8), options) {
    older = group.Open(kSeed);
    younger = group.Open(kSeed);
    older.stream->Add(Specs({waiting}));
    group.RunDry();
    younger.stream->Add(Specs({growing}));
    group.RunDry();
    EXPECT_EQ(older.sink->count(waiting.id), 60);
    EXPECT_EQ(younger.sink->count(growing.id), 90);
    EXPECT_EQ(younger.sink->accepted(), 1);
    EXPECT_GE(group.core->load().preemptions, 1);
  }
};

TEST_P(PreemptionTest, WhoeverHoldsNoKvIsCountedAsWaiting) {
  Preempted p(Options());
  const EngineLoad load = p.group.core->load();

  EXPECT_EQ(load.agents_running, 2);
  EXPECT_EQ(load.agents_waiting, 1);
  EXPECT_EQ(load.prompt_tokens, 8);
}

TEST_P(PreemptionTest, AnAgentThatWaitsAtRunToGivesWayWhenNobodyElseCan) {
  Preempted p(Options());

  p.older.stream->RunTo(p.waiting.id, 100);
  p.younger.stream->RunTo(p.growing.id, 100);
  p.group.RunDry();

  ExpectAsAlone(p.older, p.waiting);
  ExpectAsAlone(p.younger, p.growing);
}

TEST_P(PreemptionTest, PreemptedAgentsThatWaitAtRunToDoNotBlockNewGangs) {
  Preempted p(Options());
  const auto third = p.group.Open(kSeed);
  const AgentPlan newcomer = Lonely(2, 20);

  third.stream->Add(Specs({newcomer}));
  p.group.RunDry();

  EXPECT_TRUE(third.sink->refusals().empty());
  ExpectAsAlone(third, newcomer);
}

TEST_P(PreemptionTest, PreemptedAgentsThatCanGoOnComeBackBeforeNewGangsEnter) {
  Preempted p(Options());
  const auto third = p.group.Open(kSeed);
  const AgentPlan newcomer = Lonely(2, 20);

  p.older.stream->RunTo(p.waiting.id, 100);
  third.stream->Add(Specs({newcomer}));
  p.group.RunDry();

  ASSERT_EQ(third.sink->refusals().size(), 1u);
  EXPECT_EQ(third.sink->refusals()[0].why.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(MessageOf(third.sink->refusals()[0].why)),
              HasSubstr("1 agents wait for room to return"));
  ExpectAsAlone(p.older, p.waiting);
}

TEST_P(PreemptionTest, AGangThatCanNeverFitIsRefusedWithTheWidthThatWould) {
  EngineFixture group = Group(8);
  const auto family = group.Open(kSeed);
  // 2 blocks of a common prompt, and 2 of its own for each agent: 3 agents in 8 blocks.
  AgentPlan like;
  like.prompt = Prompt(32);
  like.grant = 33;

  family.stream->Add(Specs(MakeGang(5, like)));
  group.RunDry();

  ASSERT_EQ(family.sink->refusals().size(), 1u);
  EXPECT_EQ(family.sink->refusals()[0].why.code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(family.sink->refusals()[0].width, 3);
  family.stream->Add(Specs(MakeGang(3, like)));
  family.stream->Finish();
  group.RunDry();
  EXPECT_EQ(family.sink->accepted(), 3);
  EXPECT_EQ(group.core->load().preemptions, 0);
}

TEST_P(PreemptionTest, AGangEntersWhenItsPromptOnceAndItsNextTokensFindRoom) {
  EngineFixture group = Group(12);
  const auto older = group.Open(kSeed), younger = group.Open(kSeed);
  older.stream->Add(Specs({Lonely(0, 70, 60)}));  // 4 blocks, and 1 for when it goes on.
  group.RunDry();
  AgentPlan like;
  like.prompt = Prompt(32);  // 2 blocks, and 1 for each agent's next token.
  like.grant = 2;

  younger.stream->Add(Specs(MakeGang(6, like)));
  younger.stream->Add(Specs(MakeGang(5, like)));
  group.RunDry();

  ASSERT_EQ(younger.sink->refusals().size(), 1u);
  EXPECT_EQ(younger.sink->refusals()[0].why.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(younger.sink->refusals()[0].gang.size(), 6u);
  EXPECT_EQ(younger.sink->accepted(), 5);
  EXPECT_EQ(group.core->load().preemptions, 0);
}

TEST_P(PreemptionTest, ACancelledAgentsRoomIsFreeAtOnce) {
  EngineFixture group = Group(8);
  const auto family = group.Open(kSeed);
  const AgentPlan first = Lonely(0, 100), second = Lonely(1, 100);
  family.stream->Add(Specs({first}));
  for (int i = 0; i < 70; ++i) group.Turn();

  family.stream->Cancel(first.id);
  family.stream->Add(Specs({second}));
  group.RunDry();

  EXPECT_EQ(family.sink->end(first.id)->finish, Finish::kCancelled);
  ExpectAsAlone(family, second);
  EXPECT_GT(group.core->load().evictions, 0);
}

TEST_P(PreemptionTest, WhatIsDrawnBehindAnEndIsOverrunAndOnNoReceipt) {
  EngineFixture group = Group(8);
  const auto family = group.Open(kSeed);
  AgentPlan stops = Lonely(0, 40), forces = Lonely(1, 40), whole = Lonely(2, 10);
  stops.rules.stop_at = 7;
  forces.rules.force_at = 5;
  forces.rules.force = {11, 12, 13};
  family.stream->Add(Specs({stops, forces, whole}));
  family.stream->Finish();
  group.RunDry();

  for (const AgentPlan& each : {stops, forces, whole}) ExpectAsAlone(family, each);
  const FamilyCounters counters = *family.sink->counters();
  EXPECT_EQ(counters.sampled, 7 + 37 + 10);
  EXPECT_EQ(counters.forced, 3);
  const EngineLoad load = group.core->load();
  EXPECT_EQ(load.tokens_sampled, counters.sampled);
  EXPECT_EQ(load.tokens_forced, counters.forced);
  // One behind the stop and one in place of the first forced token; a grant's end is foreseen.
  EXPECT_EQ(load.overrun, GetParam() == 2 ? 2 : 0);
  EXPECT_EQ(group.runner.totals().samples, counters.sampled + load.overrun);
}

INSTANTIATE_TEST_SUITE_P(PlansInFlight, PreemptionTest, testing::Values(1, 2),
                         [](const auto& plans) { return std::to_string(plans.param); });

}  // namespace
}  // namespace conclave::worker
