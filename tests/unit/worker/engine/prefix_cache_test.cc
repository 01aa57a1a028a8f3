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
