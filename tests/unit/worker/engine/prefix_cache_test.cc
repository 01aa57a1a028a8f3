#include <gtest/gtest.h>

#include "tests/unit/worker/engine/engine_fixture.h"

namespace conclave::worker {
namespace {

// Two full blocks, and a last token that is always computed.
AgentPlan Short(TokenId first) {
  AgentPlan plan;
  plan.prompt = Prompt(2 * kBlockTokens + 1, first);
  plan.grant = 1;
  return plan;
}

// Runs one agent in a family of its own; how many tokens of its prompt were computed.
int64_t Computed(EngineFixture& group, const AgentPlan& plan, const std::string& salt = "") {
  const auto family = group.Open(1, salt);
  family.stream->Add(Specs({plan}));
  family.stream->Finish();
  group.RunDry();
  return family.sink->counters()->prompt_computed;
}

TEST(PrefixCacheTest, APromptThatWasSeenIsNotComputedAgain) {
  EngineFixture group;

  EXPECT_EQ(Computed(group, Short(1)), 33);
  EXPECT_EQ(Computed(group, Short(1)), 1);
}

TEST(PrefixCacheTest, FamiliesOfAnotherSaltFindNothing) {
  EngineFixture group;
  Computed(group, Short(1), "a tenant");

  EXPECT_EQ(Computed(group, Short(1), "another tenant"), 33);
  EXPECT_EQ(Computed(group, Short(1), "a tenant"), 1);
}

// An agent's prompt and what it produced, as the prompt of another.
int64_t ComputedOfATurnTakenUp(bool kinds_differ) {
  GroupShape shape = SmallShape();
  shape.kinds_differ = kinds_differ;
  EngineFixture group(shape);
  AgentPlan first = Short(1);
  first.grant = 2 * kBlockTokens;
  const auto family = group.Open(1);
  family.stream->Add(Specs({first}));
  family.stream->Finish();
  group.RunDry();
  AgentPlan second = Short(1);
  for (const TokenEvent& token : RunAlone(first, 1, shape.vocab_size).tokens) {
    second.prompt.push_back(token.id);
  }
  return Computed(group, second);
}

TEST(PrefixCacheTest, WhatAnAgentProducedServesAsAPromptOnlyWhereKindsAreAlike) {
  EXPECT_EQ(ComputedOfATurnTakenUp(/*kinds_differ=*/false), 1);
  // The first's prompt is found, its last token at the begin of a block; nothing behind it.
  EXPECT_EQ(ComputedOfATurnTakenUp(/*kinds_differ=*/true), 2 * kBlockTokens);
}

TEST(PrefixCacheTest, WhatWasLeftAloneLongestIsGivenUpFirst) {
  GroupShape shape = SmallShape();
  shape.pools = {{.num_blocks = 6}};
  EngineFixture group(shape);
  for (const TokenId first : {1, 100, 200}) Computed(group, Short(first));
  EXPECT_EQ(group.core->load().evictions, 1);

  EXPECT_EQ(Computed(group, Short(100)), 1);
  EXPECT_EQ(Computed(group, Short(1)), 33 - kBlockTokens);
}

}  // namespace
}  // namespace conclave::worker
