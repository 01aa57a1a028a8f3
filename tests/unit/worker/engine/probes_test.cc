#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "tests/unit/worker/engine/engine_fixture.h"

namespace conclave::worker {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kSeed = 11;

// Thinks for 100 tokens, and is asked at 16, 32, ...; a copy has 3 tokens forced and draws up to 5.
AgentPlan Asked(int index = 0, int grant = 120) {
  AgentPlan plan;
  plan.id = MakeAgentId(kThinkStage, 0, index);
  plan.prompt = Prompt(21, 100 * (index + 1));
  plan.grant = grant;
  plan.rules.thinks_for = 100;
  plan.probe_every = 16;
  plan.probe_tokens = 5;
  plan.probe_force = {901, 902, 903};
  return plan;
}

GroupShape ShapeOf(int slots, int blocks) {
  GroupShape shape = SmallShape();
  shape.max_slots = slots;
  shape.max_samples = slots;
  shape.pools = {{.num_blocks = blocks}};
  return shape;
}

std::vector<int> PlacesOf(const std::vector<RecordingSink::Probe>& probes) {
  std::vector<int> places;
  for (const RecordingSink::Probe& probe : probes) places.push_back(probe.at);
  return places;
}

class ProbesTest : public testing::TestWithParam<int> {
 protected:
  static EngineOptions Options() { return {.plans_in_flight = GetParam()}; }

  static void ExpectAsAlone(const RecordingSink& sink, const AgentPlan& plan) {
    const Expected alone = RunAlone(plan, kSeed, SmallShape().vocab_size);
    EXPECT_EQ(sink.tokens(plan.id), alone.tokens) << IndexOf(plan.id);
    const std::vector<RecordingSink::Probe> told = sink.probes(plan.id);
    EXPECT_EQ(PlacesOf(told), PlacesOf(alone.probes)) << IndexOf(plan.id);
    for (size_t i = 0; i < std::min(told.size(), alone.probes.size()); ++i) {
      EXPECT_EQ(told[i].tokens, alone.probes[i].tokens) << told[i].at;
      EXPECT_LE(told[i].count, told[i].at + plan.probe_every);
    }
  }
};

TEST_P(ProbesTest, AgentsAndTheirCopiesSayInCompanyWhatTheySayAlone) {
  EngineFixture group(SmallShape(), Options());
  const auto family = group.Open(kSeed);
  const std::vector<AgentPlan> gang = {Asked(0), Asked(1), Asked(2)};
  family.stream->Add(Specs(gang));

  group.RunDry();

  for (const AgentPlan& plan : gang) ExpectAsAlone(*family.sink, plan);
  EXPECT_EQ(PlacesOf(family.sink->probes(gang[0].id)), (std::vector<int>{16, 32, 48, 64, 80, 96}));
}

TEST_P(ProbesTest, AnAgentKnowsNothingOfBeingAsked) {
  EngineFixture group(SmallShape(), Options());
  const auto asked = group.Open(kSeed), left_alone = group.Open(kSeed);
  AgentPlan plan = Asked();
  asked.stream->Add(Specs({plan}));
  plan.probe_every = 0;
  left_alone.stream->Add(Specs({plan}));

  group.RunDry();

  EXPECT_EQ(asked.sink->tokens(plan.id), left_alone.sink->tokens(plan.id));
  EXPECT_EQ(asked.sink->probes(plan.id).size(), 6u);
  EXPECT_TRUE(left_alone.sink->probes(plan.id).empty());
}

// Of what its agent has run, a copy runs one row again: its agent's last token, which the agent
// runs at that very time. The block that the agent is filling is copied.
TEST_P(ProbesTest, ACopySharesWhatItsAgentHasComputed) {
  EngineFixture group(SmallShape(), Options());
  const auto family = group.Open(kSeed);
  const AgentPlan plan = Asked();
  family.stream->Add(Specs({plan}));
  family.stream->Finish();

  group.RunDry();

  const FamilyCounters counters = family.sink->AwaitFamilyEnd();
  EXPECT_EQ(counters.probed, 6 * (3 + 5));
  EXPECT_LE(counters.recomputed, 6);
  EXPECT_EQ(counters.sampled, plan.grant);
  EXPECT_EQ(group.core->load().probe_tokens, counters.probed);
  EXPECT_EQ(group.core->load().probes_answered, 6);
  EXPECT_EQ(group.runner.totals().copies, 6);
}

// Two agents, two slots: a copy runs in its agent's slot while that waits at its next question.
TEST_P(ProbesTest, WhereAllSlotsAreTakenAnAgentWaitsAtItsNextQuestion) {
  EngineFixture group(ShapeOf(2, 64), Options());
  const auto family = group.Open(kSeed);
  const std::vector<AgentPlan> gang = {Asked(0), Asked(1)};
  family.stream->Add(Specs(gang));

  group.RunDry();

  for (const AgentPlan& plan : gang) {
    ExpectAsAlone(*family.sink, plan);
    EXPECT_EQ(family.sink->probes(plan.id).front().count, 32);
  }
}

// The pool holds one agent with all of its grant, and nothing beside it.
TEST_P(ProbesTest, ACopyFindsRoomWhereItsAgentWould) {
  EngineFixture group(ShapeOf(4, 9), Options());
  const auto family = group.Open(kSeed);
  const AgentPlan plan = Asked();
  family.stream->Add(Specs({plan}));

  group.RunDry();

  EXPECT_EQ(family.sink->accepted(), 1);
  ExpectAsAlone(*family.sink, plan);
}

TEST_P(ProbesTest, CopiesGiveWayToAgentsAndComeBackWithTheSameTokens) {
  EngineFixture group(ShapeOf(8, 14), Options());
  const auto family = group.Open(kSeed);
  std::vector<AgentPlan> gang = {Asked(0, 100), Asked(1, 100)};
  for (AgentPlan& plan : gang) plan.rules.thinks_for = 80;
  for (const AgentPlan& plan : gang) family.stream->Add(Specs({plan}));

  group.RunDry();

  EXPECT_GT(group.core->load().preemptions, 0);
  for (const AgentPlan& plan : gang) ExpectAsAlone(*family.sink, plan);
}

TEST_P(ProbesTest, ANewAgentGetsTheSlotThatACopyHas) {
  EngineFixture group(ShapeOf(2, 64), Options());
  const auto family = group.Open(kSeed);
  const AgentPlan first = Asked(0), second = Asked(1);
  family.stream->Add(Specs({first}));
  while (family.sink->count(first.id) < 18) group.Turn();
  ASSERT_TRUE(family.sink->probes(first.id).empty());

  family.stream->Add(Specs({second}));
  group.RunDry();

  EXPECT_TRUE(family.sink->refusals().empty());
  ExpectAsAlone(*family.sink, first);
  ExpectAsAlone(*family.sink, second);
}

// Three slots, two agents: the copy of one of them runs, that of the other waits.
TEST_P(ProbesTest, CopiesThatWaitKeepNobodyOut) {
  EngineFixture group(ShapeOf(3, 64), Options());
  const auto family = group.Open(kSeed), stranger = group.Open(kSeed);
  const std::vector<AgentPlan> gang = {Asked(0), Asked(1)};
  const AgentPlan late = Asked(2);
  family.stream->Add(Specs(gang));
  while (family.sink->count(gang[1].id) < 18) group.Turn();

  stranger.stream->Add(Specs({late}));
  group.RunDry();

  EXPECT_TRUE(stranger.sink->refusals().empty());
  ExpectAsAlone(*stranger.sink, late);
  for (const AgentPlan& plan : gang) ExpectAsAlone(*family.sink, plan);
}

TEST_P(ProbesTest, ACopyWhoseAgentIsCancelledIsDroppedAndBilled) {
  EngineFixture group(SmallShape(), Options());
  const auto family = group.Open(kSeed);
  const AgentPlan plan = Asked();
  family.stream->Add(Specs({plan}));
  while (family.sink->count(plan.id) < 18) group.Turn();

  family.stream->Cancel(plan.id);
  family.stream->Finish();
  group.RunDry();

  EXPECT_TRUE(family.sink->probes(plan.id).empty());
  const FamilyCounters counters = family.sink->AwaitFamilyEnd();
  EXPECT_GE(counters.probed, 3);
  EXPECT_LT(counters.probed, 3 + 5);
  EXPECT_EQ(group.core->load().probes_dropped, 1);
  EXPECT_EQ(group.core->load().blocks_free, group.core->load().blocks_total);
}

// Fed up to 40: the copy at 16 was answered before its agent came past 32; that at 32 may not be.
TEST_P(ProbesTest, AResumedAgentIsAskedAgainWhatMayNotHaveBeenAnswered) {
  EngineFixture group(SmallShape(), Options());
  AgentPlan plan = Asked();
  const Expected alone = RunAlone(plan, kSeed, SmallShape().vocab_size);
  plan.produced = {alone.tokens.begin(), alone.tokens.begin() + 40};
  const auto family = group.Open(kSeed);
  family.sink->ExpectFed(plan.id, 40);
  family.stream->Add(Specs({plan}));

  group.RunDry();

  const std::vector<RecordingSink::Probe> told = family.sink->probes(plan.id);
  EXPECT_EQ(PlacesOf(told), (std::vector<int>{32, 48, 64, 80, 96}));
  for (size_t i = 0; i < told.size(); ++i) EXPECT_EQ(told[i].tokens, alone.probes[i + 1].tokens);
}

TEST_P(ProbesTest, AnAgentThatWaitedAtAQuestionIsAskedBothOnesWhenItIsResumed) {
  EngineFixture group(SmallShape(), Options());
  AgentPlan plan = Asked();
  const Expected alone = RunAlone(plan, kSeed, SmallShape().vocab_size);
  plan.produced = {alone.tokens.begin(), alone.tokens.begin() + 48};
  const auto family = group.Open(kSeed);
  family.sink->ExpectFed(plan.id, 48);
  family.stream->Add(Specs({plan}));

  group.RunDry();

  EXPECT_EQ(PlacesOf(family.sink->probes(plan.id)), (std::vector<int>{32, 48, 64, 80, 96}));
}

TEST_P(ProbesTest, NobodyIsAskedWhoHasNoTokenLeftToAnswerWith) {
  EngineFixture group(SmallShape(), Options());
  const auto family = group.Open(kSeed);
  const AgentPlan plan = Asked(0, 37);  // The copy at 32 has 3 forced tokens and 2 to draw.
  const AgentPlan shorter = Asked(1, 35);
  family.stream->Add(Specs({plan, shorter}));

  group.RunDry();

  EXPECT_EQ(PlacesOf(RunAlone(plan, kSeed, 1000).probes), (std::vector<int>{16, 32}));
  EXPECT_EQ(PlacesOf(RunAlone(shorter, kSeed, 1000).probes), (std::vector<int>{16}));
  EXPECT_EQ(family.sink->probes(plan.id).front().tokens.size(), 8u);
  EXPECT_LE(family.sink->probes(shorter.id).size(), 1u);
}

TEST_P(ProbesTest, NobodyIsAskedWhoDoesNotThink) {
  EngineFixture group(SmallShape(), Options());
  const auto family = group.Open(kSeed);
  AgentPlan plan = Asked();
  plan.rules.thinks_for = 0;
  family.stream->Add(Specs({plan}));

  group.RunDry();

  EXPECT_TRUE(family.sink->probes(plan.id).empty());
  EXPECT_TRUE(family.sink->end(plan.id).has_value());
}

TEST_P(ProbesTest, ProbesThatCannotBeAskedAreRefused) {
  EngineFixture group(SmallShape(), Options());
  const auto family = group.Open(kSeed);
  AgentPlan silent = Asked(), endless = Asked(), strange = Asked(), of_copies = Asked();
  silent.probe_tokens = 0;
  endless.probe_force.clear();
  strange.probe_force = {1000};
  of_copies.id = AgentId{1u << 31};

  for (const AgentPlan& plan : {silent, endless, strange, of_copies}) {
    family.stream->Add(Specs({plan}));
  }
  group.RunDry();

  const auto refusals = family.sink->refusals();
  ASSERT_EQ(refusals.size(), 4u);
  EXPECT_THAT(std::string(MessageOf(refusals[0].why)), HasSubstr("probes of 0 tokens"));
  EXPECT_THAT(std::string(MessageOf(refusals[1].why)), HasSubstr("without an end of thinking"));
  EXPECT_THAT(std::string(MessageOf(refusals[2].why)), HasSubstr("token 1000 is outside"));
  EXPECT_THAT(std::string(MessageOf(refusals[3].why)), HasSubstr("the bit of copies"));
}

INSTANTIATE_TEST_SUITE_P(PlansInFlight, ProbesTest, testing::Values(1, 2));

}  // namespace
}  // namespace conclave::worker
