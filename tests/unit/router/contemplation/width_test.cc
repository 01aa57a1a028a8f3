#include "router/contemplation/width.h"

#include <gtest/gtest.h>

#include "router/contemplation/effort.h"
#include "tests/unit/router/contemplation/led_family.h"

// How many agents enter: by effort, and by what places cost.
namespace conclave::router {
namespace {

using Kind = Decision::Kind;

TEST(LoadLevelTest, NothingIsDearWhileAnEighthIsLeftAndAllIsWhenNothingIs) {
  EXPECT_EQ(LoadLevel(64, 0), 0);
  EXPECT_EQ(LoadLevel(64, 56), 0);
  EXPECT_EQ(LoadLevel(64, 60), 0.5);
  EXPECT_EQ(LoadLevel(64, 64), 1);
  EXPECT_EQ(LoadLevel(64, 67), 1) << "more was sent than there is room for";
  EXPECT_EQ(LoadLevel(64, -2), 0) << "more of the family's own than the group knows of yet";
  EXPECT_EQ(LoadLevel(0, 0), 0) << "nothing is known";
}

TEST(WidthTest, FallsFromAllToTheMinimumAsTheLoadRises) {
  EXPECT_EQ(WidthAt(0, 1, 16, 0.5), 16);
  EXPECT_EQ(WidthAt(0.5, 1, 16, 0.5), 4);
  EXPECT_EQ(WidthAt(1, 1, 16, 0.5), 1);
  EXPECT_EQ(WidthAt(0.5, 4, 16, 0.5), 8);
  EXPECT_EQ(WidthAt(1, 4, 16, 0.5), 4);
  EXPECT_EQ(WidthAt(0.7, 1, 1, 0.5), 1);
}

TEST(WidthTest, TheSurerTheLeaderTheLessAreFurtherVotesWorth) {
  EXPECT_EQ(WidthAt(0, 1, 16, 0.999), 16) << "as long as nothing is dear, the stop rule decides";
  EXPECT_EQ(WidthAt(0.5, 1, 16, 0.875), 2);
  EXPECT_EQ(WidthAt(0.5, 1, 16, 1), 1);
  int last = 64;
  for (int i = 0; i <= 100; ++i) {
    const int width = WidthAt(0.01 * i, 2, 64, 0.75);
    EXPECT_LE(width, last);
    EXPECT_GE(width, 2);
    last = width;
  }
}

class WidthByLoadTest : public LedFamily {
 protected:
  WidthByLoadTest() {
    request_.stop_rule = StopRule::kNone;
    request_.aggregation = Aggregation::kVote;
  }

  // A group with 64 places, `others` of which others hold.
  void PlaceBeside(int others) {
    placing_ = false;
    Tell(Placed{.attempt = attempt_,
                .fingerprint = "f",
                .credits = 64 - others,
                .running = others,
                .places = 64,
                .words = "group g"});
  }
  void Beside(int others, int own) {
    Tell(CreditsChanged{
        .attempt = attempt_, .credits = 64 - others - own, .running = others + own, .places = 64});
  }

  void ExpectReplays() {
    const Completed first = completed();
    Replay(first.receipt);
    ASSERT_FALSE(failed_.has_value()) << *failed_;
    ASSERT_TRUE(succeeded_);
    EXPECT_EQ(completed().receipt.result_hash, first.receipt.result_hash);
    EXPECT_EQ(completed().receipt.decisions, first.receipt.decisions);
  }
};

TEST_F(WidthByLoadTest, UnderLoadFewEnterAndTheOthersJoinWhenItFalls) {
  Begin(8, 1);
  PlaceBeside(60);
  ASSERT_EQ(gangs_.size(), 1u);
  EXPECT_EQ(gangs_[0].agents.size(), 2u) << "8 * (1/8)^0.5, though there are places for all";
  AcceptAll();
  Say(Thinker(0), "ab");
  Say(Thinker(1), "ab");
  Beside(32, 2);
  ASSERT_EQ(gangs_.size(), 2u);
  EXPECT_EQ(gangs_[1].agents.size(), 6u);
  AcceptAll();
  Say(Thinker(0), ".");
  Say(Thinker(1), ".");
  for (int i = 2; i < 8; ++i) Say(Thinker(i), "x.");
  EndFamily();
  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().receipt.decisions.size(), 1u);
  EXPECT_EQ(completed().receipt.decisions[0].kind, Kind::kJoin);
  EXPECT_EQ(completed().receipt.agents.size(), 8u);
  ExpectReplays();
}

TEST_F(WidthByLoadTest, ThoseThatAreNotWorthTheirPriceAreNotWaitedFor) {
  Begin(8, 1);
  PlaceBeside(60);
  AcceptAll();
  Say(Thinker(0), "seven.");
  EXPECT_EQ(CountOf<Decision>(), 0) << "the load may still fall";
  Say(Thinker(1), "seven.");
  EXPECT_TRUE(finished_);
  EndFamily();
  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "seven.");
  EXPECT_FALSE(completed().incomplete);
  ASSERT_EQ(completed().receipt.decisions.size(), 1u);
  EXPECT_EQ(completed().receipt.decisions[0].kind, Kind::kNarrow);
  EXPECT_EQ(completed().receipt.decisions[0].agents.size(), 6u);
  ExpectReplays();
}

TEST_F(WidthByLoadTest, AFamilysOwnAgentsMakeNothingDearToIt) {
  request_.wave = 32;
  Begin(64, 1);
  PlaceBeside(0);
  ASSERT_EQ(gangs_[0].agents.size(), 32u);
  AcceptAll();
  Beside(0, 32);
  for (int i = 0; i < 32; ++i) Say(Thinker(i), "seven.");
  ASSERT_EQ(gangs_.size(), 2u);
  EXPECT_EQ(gangs_[1].agents.size(), 32u);
}

TEST_F(WidthByLoadTest, AGroupThatTakesNobodyForAMomentIsNotDear) {
  request_.wave = 3;
  Begin(6, 1);
  PlaceBeside(33);
  ASSERT_EQ(gangs_[0].agents.size(), 3u);
  AcceptAll();
  // Twelve such families at a time: prompts are computed, so no credits, and places for all.
  Tell(CreditsChanged{.attempt = attempt_, .credits = 0, .running = 36, .places = 64});
  for (int i = 0; i < 3; ++i) Say(Thinker(i), "seven.");
  ASSERT_EQ(gangs_.size(), 2u);
  EXPECT_EQ(gangs_[1].agents.size(), 3u) << "as without the others";
  AcceptAll();
  for (int i = 3; i < 6; ++i) Say(Thinker(i), "seven.");
  EndFamily();
  ASSERT_TRUE(succeeded_);
  EXPECT_TRUE(completed().receipt.decisions.empty());
}

TEST_F(WidthByLoadTest, WhatAnOlderGroupsPlacesAreIsKnownByThoseThatAreTakenAndFree) {
  request_.wave = 4;
  Begin(16, 1);
  Place(64);
  AcceptAll();
  Tell(CreditsChanged{.attempt = attempt_, .credits = 0, .running = 64});  // Others hold 60.
  for (int i = 0; i < 4; ++i) Say(Thinker(i), std::string(1, static_cast<char>('a' + i)) + ".");
  EXPECT_TRUE(finished_) << "16 * (1/16)^0.5 = 4 in all";
}

TEST_F(WidthByLoadTest, ANextWaveIsAsWideAsItIsWorthByTheVotesThatThereAre) {
  request_.wave = 4;
  Begin(16, 1);
  PlaceBeside(0);
  AcceptAll();
  Beside(59, 4);  // Load 0.375.
  for (int i = 0; i < 4; ++i) Say(Thinker(i), std::string(1, static_cast<char>('a' + i)) + ".");
  ASSERT_EQ(gangs_.size(), 2u);
  EXPECT_EQ(gangs_[1].agents.size(), 1u) << "16 * (1/16)^0.375 = 5 in all";
}

TEST_F(WidthByLoadTest, AWaveThatIsWorthNothingEndsTheRound) {
  request_.wave = 4;
  Begin(16, 1);
  PlaceBeside(0);
  AcceptAll();
  Beside(59, 4);
  for (int i = 0; i < 4; ++i) Say(Thinker(i), "seven.");
  EXPECT_TRUE(finished_) << "four of four agree";
  EndFamily();
  ASSERT_TRUE(succeeded_);
  ASSERT_EQ(completed().receipt.decisions.size(), 1u);
  EXPECT_EQ(completed().receipt.decisions[0].agents.size(), 12u);
  ExpectReplays();
}

TEST_F(WidthByLoadTest, TheMinimumEntersAtAnyLoad) {
  Begin(8, 3);
  PlaceBeside(64);
  ASSERT_EQ(gangs_.size(), 1u);
  EXPECT_EQ(gangs_[0].agents.size(), 3u);
}

class EffortTest : public LedFamily {
 protected:
  EffortTest() {
    request_.strategy = Strategy::kAuto;
    request_.stop_rule = StopRule::kBeta;
  }
  Plan PlanOf(Effort effort) {
    request_.effort = effort;
    return *MakePlan(request_, model_, limits_);
  }
};

TEST_F(EffortTest, ChoosesAgentsWavesAndCertainty) {
  const std::pair<Effort, size_t> most[] = {
      {Effort::kLow, 4}, {Effort::kMedium, 16}, {Effort::kHigh, 64}};
  for (const auto& [effort, agents] : most) {
    const Plan plan = PlanOf(effort);
    EXPECT_EQ(plan.agents.size(), agents);
    EXPECT_EQ(plan.waves.front(), ChoiceOf(effort).wave);
    EXPECT_EQ(plan.stop.rule, StopRule::kBeta);
    EXPECT_EQ(plan.stop.certainty, ChoiceOf(effort).certainty);
  }
}

TEST_F(EffortTest, WhatTheRequestSaysStands) {
  request_.max_agents = 10;
  request_.wave = 5;
  request_.stop_rule = StopRule::kQuorum;
  const Plan plan = PlanOf(Effort::kHigh);
  EXPECT_EQ(plan.agents.size(), 10u);
  EXPECT_EQ(plan.waves, (std::vector{5, 5}));
  EXPECT_EQ(plan.stop.rule, StopRule::kQuorum);
  request_.max_agents = 2;
  request_.wave.reset();
  EXPECT_EQ(PlanOf(Effort::kHigh).waves, std::vector{2});
}

TEST_F(EffortTest, TheFirstAgentTakesTheLikeliestTokensAndTheOthersDrawAtTheModelsOwn) {
  for (const float own : {0.2f, 1.0f, 0.0f}) {
    model_.profile.sampling.temperature = own;
    const Plan plan = PlanOf(Effort::kMedium);
    const float apart = own == 0 ? 1 : own;
    EXPECT_EQ(plan.agents.at(0).sampling.temperature, 0);
    EXPECT_EQ(plan.agents.at(1).sampling.temperature, apart);
    EXPECT_EQ(plan.agents.back().sampling.temperature, apart);
    EXPECT_EQ(plan.settings.sampling.temperature, apart);
    EXPECT_EQ(plan.synthesis.sampling.temperature, own) << "who merges is none of the voters";
  }
}

TEST_F(EffortTest, TheFirstAgentIsLikeTheOthersWhereATemperatureIsNamedOrNobodyVotes) {
  model_.profile.sampling.temperature = 0.8f;
  const auto drawn = [this] { return PlanOf(Effort::kHigh).agents.at(0).sampling.temperature; };
  request_.temperatures = {0.3f, 1.5f};
  EXPECT_EQ(drawn(), 0.3f);
  request_.temperatures.clear();
  request_.sampling.temperature = 1.2f;
  EXPECT_EQ(drawn(), 1.2f);
  request_.sampling.temperature.reset();
  request_.strategy = Strategy::kSample;
  EXPECT_EQ(drawn(), 0.8f);
  request_.strategy = Strategy::kAuto;
  request_.checker = CheckerSpec{CheckerSpec::Kind::kRegex, "7", {}};
  EXPECT_EQ(drawn(), 0.8f) << "one that is right is enough";
  request_.checker.reset();
  request_.max_agents = 1;
  request_.wave.reset();
  EXPECT_EQ(drawn(), 0.8f) << "nobody votes";
}

TEST_F(EffortTest, VotesWeighWhatTheirAgentsThinkOfThemWhereNothingElseIsSaid) {
  EXPECT_EQ(PlanOf(Effort::kLow).vote_weight, VoteWeight::kTraceProbability);
  request_.aggregation = Aggregation::kVote;
  EXPECT_EQ(PlanOf(Effort::kLow).vote_weight, VoteWeight::kOne);
  request_.aggregation = Aggregation::kWeightedVote;
  request_.vote_weight = VoteWeight::kTop20Mean;
  EXPECT_EQ(PlanOf(Effort::kLow).vote_weight, VoteWeight::kTop20Mean);
  request_.vote_weight.reset();
  request_.aggregation = Aggregation::kAuto;
  request_.checker = CheckerSpec{CheckerSpec::Kind::kRegex, "7", {}};
  EXPECT_EQ(PlanOf(Effort::kLow).vote_weight, VoteWeight::kOne) << "the checker decides";
  request_.checker.reset();
  request_.strategy = Strategy::kSample;
  EXPECT_EQ(PlanOf(Effort::kLow).vote_weight, VoteWeight::kOne);
}

TEST_F(EffortTest, TheServersLimitAndTheMinimumBoundIt) {
  limits_.max_agents = 12;
  EXPECT_EQ(PlanOf(Effort::kHigh).agents.size(), 12u);
  request_.min_agents = 6;
  const Plan plan = PlanOf(Effort::kLow);
  EXPECT_EQ(plan.agents.size(), 6u);
  EXPECT_EQ(plan.waves, std::vector{6});
}

}  // namespace
}  // namespace conclave::router
