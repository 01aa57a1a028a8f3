#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "common/status.h"
#include "tests/unit/router/contemplation/led_family.h"

// Agents that are asked for their answer so far.
namespace conclave::router {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class ProbesTest : public LedFamily {
 protected:
  ProbesTest() {
    model_.profile.thinks = true;
    model_.profile.thinking_tokens = 200;
    request_.probes = ProbeChoice{.every = 16, .answer_tokens = 8, .agree = 2};
    request_.stop_rule = StopRule::kNone;
    request_.aggregation = Aggregation::kVote;
  }

  // So many agents, all of which have entered.
  void Enter(int agents) {
    Begin(agents, 1);
    Place(64);
    AcceptAll();
  }

  static std::string Letters(int count) { return std::string(static_cast<size_t>(count), 'a'); }

  const AgentUsage& UsageOf(int agent) const {
    return completed().receipt.agents[static_cast<size_t>(agent)];
  }
};

TEST_F(ProbesTest, OnlyTheRoundsAgentsAreAsked) {
  Enter(2);
  for (const AgentRecipe& agent : gangs_[0].agents) {
    EXPECT_EQ(agent.probe_every, 16);
    EXPECT_EQ(agent.probe_tokens, 8);
  }
  const auto plan = MakePlan(request_, model_, limits_);
  EXPECT_EQ(plan->synthesis.probe_every, 0);
}

TEST_F(ProbesTest, AModelThatDoesNotThinkIsNotAsked) {
  model_.profile.thinks = false;
  const auto plan = MakePlan(request_, model_, limits_);
  EXPECT_EQ(plan.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(MessageOf(plan.status())), HasSubstr("contemplation.probes"));
}

TEST_F(ProbesTest, WhatACopyAnswersIsTold) {
  request_.probes->agree.reset();
  Enter(1);
  Say(Thinker(0), Letters(16));
  Answer(Thinker(0), 16, " 7 ");

  const auto* told = std::get_if<ProbeAnswer>(&events_.back().what);
  ASSERT_NE(told, nullptr);
  EXPECT_EQ(events_.back().agent, Thinker(0));
  EXPECT_EQ(told->at, 16);
  EXPECT_EQ(told->answer, "7");
  EXPECT_EQ(told->tokens, 5);
}

// The copies at 16 and 32 agree: so the agent ends at 49, whenever that becomes known.
TEST_F(ProbesTest, AnAgentEndsWithTheFirstTokenThatCannotComeBeforeTheAgreement) {
  Enter(1);
  Say(Thinker(0), Letters(20));
  Answer(Thinker(0), 16, "7");
  Say(Thinker(0), Letters(20));
  Answer(Thinker(0), 32, "7");
  EXPECT_EQ(CountOf<AgentFinished>(), 0);

  Say(Thinker(0), Letters(10));
  EXPECT_EQ(CountOf<AgentFinished>(), 1);
  ASSERT_EQ(cancels_.size(), 1u);
  EXPECT_THAT(cancels_[0].agents, ElementsAre(Thinker(0)));
  End(Thinker(0), Finish::kCancelled);
  EndFamily();

  EXPECT_EQ(completed().answer, "7");
  EXPECT_FALSE(completed().incomplete);
  EXPECT_EQ(completed().receipt.votes, (std::vector<Vote>{{"7", 1, 1}}));
  EXPECT_EQ(completed().receipt.critical_path_tokens, 49);
  EXPECT_EQ(UsageOf(0).kept, 49);
  EXPECT_EQ(UsageOf(0).discarded, 1);
  EXPECT_FALSE(UsageOf(0).cut);
  EXPECT_EQ(UsageOf(0).reason, Finish::kStop);
}

// Whether its answer came before or behind an end at 48 must not matter: so it ends behind that.
TEST_F(ProbesTest, AnAgentThatStandsWhereItWaitsForItsCopyDoesNotEndThere) {
  Enter(2);
  Say(Thinker(0), Letters(20));
  Answer(Thinker(0), 16, "7");
  Say(Thinker(0), Letters(28));
  Say(Thinker(1), Letters(47) + ".");
  EXPECT_EQ(CountOf<AgentFinished>(), 1);
  Answer(Thinker(0), 32, "7");
  EXPECT_EQ(CountOf<AgentFinished>(), 1);
  Say(Thinker(0), "a");
  EXPECT_EQ(CountOf<AgentFinished>(), 2);
}

TEST_F(ProbesTest, WhatACopySaysAgainAfterALossIsToldAndBilledOnce) {
  request_.probes->agree.reset();
  Enter(1);
  Say(Thinker(0), Letters(16));
  Answer(Thinker(0), 16, "7");
  Lose(Unavailable("rank 1 was killed"));
  Place(64);
  AcceptAll();

  Answer(Thinker(0), 16, "7");
  Say(Thinker(0), Letters(15) + ".");
  Tell(FamilyEnded{.attempt = attempt_, .totals = {.prompt_computed = 5, .probed = 5 + 4}});

  EXPECT_EQ(CountOf<ProbeAnswer>(), 1);
  const Receipt& receipt = completed().receipt;
  EXPECT_EQ(receipt.probe_tokens, 5 + 4) << "one that was dropped told nothing";
  EXPECT_EQ(receipt.prompt.recomputed, 5 + 5) << "its prompt, and what its copy said";
}

TEST_F(ProbesTest, AnotherAnswerOrNoneBeginsTheCountAnew) {
  Enter(1);
  Say(Thinker(0), Letters(16));
  int at = 16;
  for (const char* answer : {"7", "", "7", "8", "7"}) {
    Answer(Thinker(0), at, answer);
    Say(Thinker(0), Letters(16));
    at += 16;
  }
  EXPECT_EQ(CountOf<AgentFinished>(), 0);
  Answer(Thinker(0), at, "7");
  Say(Thinker(0), Letters(17));
  EXPECT_EQ(CountOf<AgentFinished>(), 1);
}

TEST_F(ProbesTest, AnEndOfItsOwnAtThatTokenGoesBefore) {
  Enter(1);
  Say(Thinker(0), Letters(20));
  Answer(Thinker(0), 16, "7");
  Say(Thinker(0), Letters(20));
  Answer(Thinker(0), 32, "7");
  Say(Thinker(0), "own  end.");
  EndFamily();

  EXPECT_THAT(completed().answer, HasSubstr("own  end."));
  EXPECT_EQ(UsageOf(0).kept, 49);
}

TEST_F(ProbesTest, WithoutAgreementCopiesOnlyTell) {
  request_.probes->agree.reset();
  Enter(1);
  Say(Thinker(0), Letters(16));
  for (int at = 16; at < 160; at += 16) {
    Answer(Thinker(0), at, "7");
    Say(Thinker(0), Letters(16));
  }
  EXPECT_EQ(CountOf<AgentFinished>(), 0);
  EXPECT_EQ(CountOf<ProbeAnswer>(), 9);
}

// The end at 65 is not counted before the other one has as many tokens.
TEST_F(ProbesTest, AnAgreedEndIsCountedInTokenTime) {
  Enter(2);
  Say(Thinker(0), Letters(48));
  Say(Thinker(1), Letters(40));
  Answer(Thinker(0), 32, "7");
  Say(Thinker(0), Letters(4));
  Answer(Thinker(0), 48, "7");
  Say(Thinker(0), Letters(13));
  EXPECT_EQ(CountOf<AgentFinished>(), 0);
  Say(Thinker(1), Letters(24));
  EXPECT_EQ(CountOf<AgentFinished>(), 0);
  Say(Thinker(1), "a");
  EXPECT_EQ(CountOf<AgentFinished>(), 1);
}

TEST_F(ProbesTest, AnAgentThatIsResumedKeepsWhatItsCopiesSaid) {
  Enter(1);
  Say(Thinker(0), Letters(20));
  Answer(Thinker(0), 16, "7");
  Say(Thinker(0), Letters(16));
  Answer(Thinker(0), 32, "7");
  Lose(Unavailable("gone"));
  Place(64);
  AcceptAll();
  EXPECT_EQ(gangs_.back().agents[0].produced.size(), 36u);
  Answer(Thinker(0), 32, "7");  // Once more; it counts once.
  Say(Thinker(0), Letters(13));
  End(Thinker(0), Finish::kCancelled);
  Tell(FamilyEnded{.attempt = attempt_, .totals = {.prompt_computed = 5, .probed = 23}});

  EXPECT_EQ(completed().answer, "7");
  EXPECT_EQ(CountOf<ProbeAnswer>(), 2);
  EXPECT_EQ(completed().receipt.probe_tokens, 2 * 5 + 18) << "heard on the lost one, and told";
}

TEST_F(ProbesTest, AGroupThatDoesNotHoldItsAgentsIsNotBelieved) {
  request_.on_loss = OnLoss::kFail;
  Enter(1);
  Say(Thinker(0), Letters(33));
  Answer(Thinker(0), 16, "7");
  ASSERT_TRUE(failed_.has_value());
  EXPECT_THAT(std::string(MessageOf(*failed_)), HasSubstr("at 16 answered when it had 33 tokens"));
}

TEST_F(ProbesTest, ACopyCannotBeAheadOfItsAgent) {
  request_.on_loss = OnLoss::kFail;
  Enter(1);
  Say(Thinker(0), Letters(15));
  Answer(Thinker(0), 16, "7");
  ASSERT_TRUE(failed_.has_value());
}

class BoundlessCopyTest : public ProbesTest, public testing::WithParamInterface<ProbeResult> {};

TEST_P(BoundlessCopyTest, ACopyWithMoreThanWasAllowedBreaksTheStream) {
  request_.on_loss = OnLoss::kFail;
  Enter(1);
  Say(Thinker(0), Letters(16));
  ProbeResult result = GetParam();
  result.agent = Thinker(0);
  Tell(Probed{.attempt = attempt_, .result = result});
  ASSERT_TRUE(failed_.has_value());
}

INSTANTIATE_TEST_SUITE_P(Lies, BoundlessCopyTest,
                         testing::Values(ProbeResult{.at = 16, .sampled = 9},
                                         ProbeResult{.at = 16, .sampled = -1},
                                         ProbeResult{.at = 16, .sampled = 8, .forced = 9},
                                         ProbeResult{.at = 16, .forced = INT32_MAX},
                                         ProbeResult{.at = INT32_MAX - 2, .sampled = 1}));

TEST_F(ProbesTest, ACopyAnswersOnceOnAStream) {
  Enter(1);
  Say(Thinker(0), Letters(20));
  Answer(Thinker(0), 16, "x");
  EXPECT_FALSE(closed_);
  Answer(Thinker(0), 16, "x");
  EXPECT_TRUE(closed_);
}

TEST_F(ProbesTest, ACopyOfAnAgentThatNobodyAsksBreaksTheStream) {
  request_.on_loss = OnLoss::kFail;
  request_.probes.reset();
  Enter(1);
  Say(Thinker(0), Letters(16));
  Answer(Thinker(0), 16, "7");
  ASSERT_TRUE(failed_.has_value());
  EXPECT_THAT(std::string(MessageOf(*failed_)), HasSubstr("which nobody asks"));
}

}  // namespace
}  // namespace conclave::router
