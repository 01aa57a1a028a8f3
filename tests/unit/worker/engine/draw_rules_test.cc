#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/worker/engine/engine_fixture.h"

namespace conclave::worker {
namespace {

constexpr TokenId kEnd = 9;

// An agent that would draw its end at once, and stops there.
AgentSpec Eager(int barred_until, int grant = 8) {
  AgentPlan plan;
  plan.prompt = {5, 6, 7};
  plan.grant = grant;
  AgentSpec spec = plan.Spec();
  spec.rules = {.barred = {kEnd}, .barred_until = barred_until, .top_logprobs = 2};
  return spec;
}

std::vector<TokenEvent> RunOne(EngineFixture& fixture, AgentSpec spec) {
  fixture.runner.set_script([](AgentId, int) { return kEnd; });
  const AgentId id = spec.id;
  const auto family = fixture.Open();
  std::vector<AgentSpec> gang;
  gang.push_back(std::move(spec));
  family.stream->Add(std::move(gang));
  fixture.RunDry();
  return family.sink->tokens(id);
}

std::vector<TokenId> IdsOf(const std::vector<TokenEvent>& tokens) {
  std::vector<TokenId> ids;
  for (const TokenEvent& token : tokens) ids.push_back(token.id);
  return ids;
}

TEST(DrawRulesTest, ABarHoldsForItsIndexesAndNoFurther) {
  EngineFixture fixture;
  const auto ids = IdsOf(RunOne(fixture, Eager(3)));

  ASSERT_EQ(ids.size(), 8u);
  EXPECT_EQ(std::find(ids.begin(), ids.end(), kEnd) - ids.begin(), 3);
}

TEST(DrawRulesTest, WhatIsToldComesWithEachToken) {
  EngineFixture fixture;
  for (const TokenEvent& token : RunOne(fixture, Eager(0))) {
    ASSERT_EQ(token.told.size(), 3u);
    EXPECT_EQ(token.told[0].id, token.id);
  }
}

// Its index counts what it brings: a bar that was over stays over, one that was not goes on.
TEST(DrawRulesTest, AnAgentThatIsTakenUpKeepsItsBar) {
  for (const int fed : {2, 5}) {
    EngineFixture fixture;
    AgentSpec spec = Eager(4);
    for (int i = 0; i < fed; ++i) spec.produced.push_back({.id = 100 + i, .logprob = -1});
    fixture.runner.set_script([](AgentId, int) { return kEnd; });
    const auto family = fixture.Open();
    family.sink->ExpectFed(spec.id, fed);
    const AgentId id = spec.id;
    std::vector<AgentSpec> gang;
    gang.push_back(std::move(spec));
    family.stream->Add(std::move(gang));
    fixture.RunDry();

    const auto ids = IdsOf(family.sink->tokens(id));
    ASSERT_FALSE(ids.empty());
    EXPECT_EQ(std::find(ids.begin(), ids.end(), kEnd) - ids.begin(), std::max(0, 4 - fed));
  }
}

TEST(DrawRulesTest, ABarOnWhatIsNoTokenIsRefused) {
  EngineFixture fixture;
  AgentSpec spec = Eager(3);
  spec.rules.barred.push_back(1000);
  const auto family = fixture.Open();
  std::vector<AgentSpec> gang;
  gang.push_back(std::move(spec));
  family.stream->Add(std::move(gang));
  fixture.RunDry();

  ASSERT_EQ(family.sink->refusals().size(), 1u);
  EXPECT_EQ(family.sink->refusals()[0].why.code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace conclave::worker
