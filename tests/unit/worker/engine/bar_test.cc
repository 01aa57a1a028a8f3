#include <gtest/gtest.h>

#include "tests/unit/worker/engine/engine_fixture.h"
#include "worker/engine/agent_tokens.h"

namespace conclave::worker {
namespace {

TokenEvent Drawn(float top, TokenId id = 1) {
  return {.id = id, .logprob = -1, .top_logprob_mean = top, .kind = TokenKind::kSampled};
}

AgentPlan Plan(ConfidenceBar bar) {
  AgentPlan plan;
  plan.prompt = {5};
  plan.grant = 20;
  plan.bar = bar;
  return plan;
}

// How many of these tokens the agent takes, and why it ended.
struct Taken {
  int count = 0;
  std::optional<Finish> end;

  bool operator==(const Taken&) const = default;
};

Taken Take(const AgentPlan& plan, const std::vector<TokenEvent>& drawn) {
  AgentSpec spec = plan.Spec();
  AgentTokens tokens(spec);
  std::vector<TokenEvent> added;
  for (const TokenEvent& token : drawn) {
    if (!tokens.wants_token(0)) break;
    tokens.TakeSampled(token, added);
  }
  return {tokens.count(), tokens.ended() ? std::optional(tokens.end().finish) : std::nullopt};
}

TEST(BarTest, AnAgentEndsAtTheExactTokenAtWhichItsWindowFallsBelowTheBar) {
  const AgentPlan plan = Plan({.bar = 4, .window = 3});
  const std::vector<TokenEvent> falls = {Drawn(-9), Drawn(-5), Drawn(-3), Drawn(-4),
                                         Drawn(-4), Drawn(-9), Drawn(-9)};
  EXPECT_EQ(Take(plan, falls), (Taken{5, Finish::kBar}));
}

TEST(BarTest, TheBarItselfIsHighEnough) {
  const AgentPlan plan = Plan({.bar = 4, .window = 2});
  EXPECT_EQ(Take(plan, {Drawn(-4), Drawn(-4), Drawn(-3), Drawn(-5)}), (Taken{3, Finish::kBar}));
  EXPECT_EQ(Take(plan, {Drawn(-4), Drawn(-4), Drawn(-4), Drawn(-5)}), (Taken{4, std::nullopt}));
}

TEST(BarTest, NobodyIsEndedBeforeTheFirstWindowIsFull) {
  EXPECT_EQ(Take(Plan({.bar = 4, .window = 4}), {Drawn(-1), Drawn(-1), Drawn(-1)}),
            (Taken{3, std::nullopt}));
}

TEST(BarTest, WhatElseEndsTheAgentAtThatTokenGoesBefore) {
  AgentPlan plan = Plan({.bar = 4, .window = 2});
  plan.rules.stop_at = 2;
  EXPECT_EQ(Take(plan, {Drawn(-1), Drawn(-1)}), (Taken{2, Finish::kStop}));
  plan.rules.stop_at = 0;
  plan.grant = 2;
  EXPECT_EQ(Take(plan, {Drawn(-1), Drawn(-1)}), (Taken{2, Finish::kLength}));
}

TEST(BarTest, ForcedTokensAreNoPartOfAWindow) {
  AgentPlan plan = Plan({.bar = 4, .window = 2});
  plan.rules.force_at = 1;
  plan.rules.force = {7, 7, 7};
  EXPECT_EQ(Take(plan, {Drawn(-9), Drawn(-1), Drawn(-1)}), (Taken{6, Finish::kBar}))
      << "two drawn, three forced, one drawn";
}

TEST(BarTest, AResumedAgentEndsWhereItWouldHaveEnded) {
  const AgentPlan plan = Plan({.bar = 4, .window = 3});
  const std::vector<TokenEvent> falls = {Drawn(-9), Drawn(-5), Drawn(-3), Drawn(-4), Drawn(-4)};
  for (size_t fed = 0; fed <= falls.size(); ++fed) {
    AgentSpec spec = plan.Spec();
    AgentTokens tokens(spec);
    const auto middle = falls.begin() + static_cast<std::ptrdiff_t>(fed);
    ASSERT_TRUE(tokens.Feed({falls.begin(), middle}).ok());
    std::vector<TokenEvent> added;
    for (auto next = middle; next != falls.end(); ++next) {
      ASSERT_TRUE(tokens.wants_token(0)) << fed;
      tokens.TakeSampled(*next, added);
    }
    ASSERT_TRUE(tokens.ended()) << fed;
    EXPECT_EQ(tokens.end().finish, Finish::kBar);
    EXPECT_EQ(tokens.count(), 5);
  }
}

TEST(BarTest, FedTokensBehindTheBarAreRefused) {
  AgentSpec spec = Plan({.bar = 4, .window = 2}).Spec();
  AgentTokens tokens(spec);
  const absl::Status status = tokens.Feed({Drawn(-1), Drawn(-1), Drawn(-9)});
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("ends at token 2; 3 were produced"), std::string_view::npos)
      << status;
}

TEST(BarTest, ABarThatIsNoneIsRefused) {
  EngineFixture fixture;
  auto [stream, sink] = fixture.Open();
  stream->Add(Specs({Plan({.bar = -1, .window = 2})}));
  stream->Add(Specs({Plan({.bar = 1, .window = 0})}));
  fixture.RunDry();
  ASSERT_EQ(sink->refusals().size(), 2u);
  for (const auto& refusal : sink->refusals()) {
    EXPECT_EQ(refusal.why.code(), absl::StatusCode::kInvalidArgument) << refusal.why;
  }
}

}  // namespace
}  // namespace conclave::worker
