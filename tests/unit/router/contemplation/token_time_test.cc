#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "router/contemplation/ballot.h"
#include "router/contemplation/stop_rule.h"
#include "router/contemplation/tally.h"
#include "router/contemplation/vote_weight.h"

namespace conclave::router {
namespace {

AgentId A(int index) { return MakeAgentId(kThinkStage, 0, index); }

TEST(TallyTest, AnEndIsCountableOnlyWhenNoRunningAgentIsBehindIt) {
  Tally tally;
  tally.Enter(A(0), 0);
  tally.Enter(A(1), 0);
  tally.Advance(A(0), 10);
  tally.End(A(0));
  tally.Advance(A(1), 9);
  EXPECT_EQ(tally.NextEnd(), A(0));
  EXPECT_EQ(tally.NextCountable(), std::nullopt);
  tally.Advance(A(1), 10);
  EXPECT_EQ(tally.NextCountable(), A(0));
}

TEST(TallyTest, EndsAreCountedByClockThenByAgentWhateverTheOrderOfArrival) {
  Tally tally;
  for (int i = 0; i < 4; ++i) tally.Enter(A(i), 0);
  const std::vector<int> lengths = {7, 5, 7, 5};
  for (const int i : {2, 3, 0, 1}) {
    tally.Advance(A(i), lengths[i]);
    tally.End(A(i));
  }
  std::vector<AgentId> order;
  while (const std::optional<AgentId> next = tally.NextCountable()) {
    order.push_back(*next);
    tally.Count(*next);
  }
  EXPECT_EQ(order, (std::vector{A(1), A(3), A(0), A(2)}));
}

TEST(TallyTest, AnAgentThatJoinsLateStandsAtItsStartPlusItsTokens) {
  Tally tally;
  tally.Enter(A(0), 0);
  tally.Advance(A(0), 30);
  tally.Enter(A(1), 30);
  tally.Advance(A(1), 4);
  EXPECT_EQ(tally.ClockOf(A(1)), 34);
  EXPECT_EQ(tally.StartOf(A(1)), 30);
  EXPECT_EQ(tally.clock(), 30);
}

TEST(TallyTest, TheFamilysClockIsTheLeastOfThoseThatRunAndTheGreatestReachedWhenNoneDoes) {
  Tally tally;
  tally.Enter(A(0), 0);
  tally.Enter(A(1), 0);
  tally.Advance(A(0), 12);
  tally.Advance(A(1), 8);
  EXPECT_EQ(tally.clock(), 8);
  tally.End(A(1));
  EXPECT_EQ(tally.clock(), 12);
  tally.Cut(A(0), 10);
  tally.Count(A(1));
  EXPECT_EQ(tally.clock(), 10) << "what stands past a cut was never reached";
}

TEST(TallyTest, AWithdrawnAgentNeverWas) {
  Tally tally;
  tally.Enter(A(0), 0);
  tally.Enter(A(1), 0);
  tally.Advance(A(0), 3);
  tally.Withdraw(A(1));
  EXPECT_EQ(tally.StateOf(A(1)), Tally::State::kAbsent);
  EXPECT_EQ(tally.clock(), 3);
  EXPECT_EQ(tally.In(Tally::State::kRuns), (std::vector{A(0)}));
  tally.Enter(A(1), 3);
  EXPECT_EQ(tally.StateOf(A(1)), Tally::State::kRuns);
}

TEST(BallotTest, MostVotesComeFirstAndTiesKeepTheOrderOfCounting) {
  Ballot ballot;
  ballot.Add(A(0), "7");
  ballot.Add(A(1), "5");
  ballot.Add(A(2), "5");
  ballot.Add(A(3), "9");
  ballot.Add(A(4), "7");
  const std::vector<Vote> expected = {{"7", 2, 2}, {"5", 2, 2}, {"9", 1, 1}};
  EXPECT_EQ(ballot.Votes(), expected);
  EXPECT_EQ(ballot.Voters()[0], (std::vector{A(0), A(4)}));
  EXPECT_EQ(ballot.leading(), 2);
  EXPECT_EQ(ballot.runner_up(), 2);
  EXPECT_EQ(ballot.lead(), 0);
  ballot.Add(A(5), "5");
  EXPECT_EQ(ballot.Votes()[0].answer, "5");
  EXPECT_EQ(ballot.lead(), 1);
}

TEST(BallotTest, TheGreatestWeightComesFirstAndTiesKeepTheOrderOfCounting) {
  Ballot ballot;
  ballot.Add(A(0), "7", 0.25);
  ballot.Add(A(1), std::nullopt, 0);
  ballot.Add(A(2), "7", 0.25);
  ballot.Add(A(3), "5", 0.5);
  ballot.Add(A(4), "9", 0.75);
  const std::vector<Vote> expected = {{"9", 0.75, 1}, {"7", 0.5, 2}, {"5", 0.5, 1}};
  EXPECT_EQ(ballot.Votes(), expected);
  EXPECT_EQ(ballot.Voters()[0], (std::vector{A(4)}));
  EXPECT_EQ(ballot.lead(), 0.25);
  EXPECT_EQ(ballot.leading(), 2) << "counts are counts";
  EXPECT_EQ(ballot.runner_up(), 1);
  EXPECT_FALSE(ballot.LeaderHasMost());
  ballot.Add(A(5), "7", 0.5);
  EXPECT_TRUE(ballot.LeaderHasMost());
}

TEST(WeightedStopTest, SettledTakesEachVoteToComeForAWholeOne) {
  Ballot ballot;
  for (int i = 0; i < 4; ++i) ballot.Add(A(i), "a", 0.5);
  EXPECT_FALSE(Stops({}, ballot, 2));
  EXPECT_EQ(StopValue({}, ballot, 2), 0);
  EXPECT_TRUE(Stops({}, ballot, 1));
  ballot.Add(A(4), "b", 0.25);
  EXPECT_EQ(StopValue({}, ballot, 1), 0.75);
}

TEST(WeightedStopTest, BetaLooksAtCountsAndStopsOnlyIfItsLeaderAlsoLeadsByWeight) {
  const StopTest beta{StopRule::kBeta, 0.9, 0};
  Ballot ballot;
  for (int i = 0; i < 4; ++i) ballot.Add(A(i), "a", 0.125);
  EXPECT_TRUE(Stops(beta, ballot, 9));
  ballot.Add(A(4), "b", 0.5);
  EXPECT_GT(StopValue({StopRule::kBeta, 0.8, 0}, ballot, 9), 0.8);
  EXPECT_FALSE(Stops({StopRule::kBeta, 0.8, 0}, ballot, 9)) << "even by weight";
  ballot.Add(A(5), "a", 0.125);
  EXPECT_TRUE(Stops({StopRule::kBeta, 0.8, 0}, ballot, 9));
}

TEST(VoteWeightTest, IsTheQuantitysSizeBetweenNothingAndOne) {
  TraceConfidence trace(2);
  for (const float top : {-8.0f, -24.0f, -8.0f, -4.0f}) {
    trace.Add({.id = 1, .logprob = -0.5f, .top_logprob_mean = top, .kind = TokenKind::kSampled});
  }
  EXPECT_EQ(WeightOf(trace, VoteWeight::kOne), 1);
  EXPECT_NEAR(WeightOf(trace, VoteWeight::kMeanProbability), std::exp(-0.5), 1e-7);
  EXPECT_EQ(WeightOf(trace, VoteWeight::kTop20Mean), 11.0 / 32);
  EXPECT_EQ(WeightOf(trace, VoteWeight::kTop20LowestWindow), 6.0 / 32);
  EXPECT_NEAR(WeightOf(trace, VoteWeight::kTraceProbability) / std::exp(-256), 1, 1e-7);
}

TEST(VoteWeightTest, IsNeverNothingAndNeverMoreThanOne) {
  for (int i = 1; i <= 4; ++i) {
    const auto weight = static_cast<VoteWeight>(i);
    EXPECT_EQ(WeightOf(TraceConfidence(4), weight), 0x1p-1000) << "nothing was drawn";
    TraceConfidence sure(4), hopeless(4);
    sure.Add({.id = 1, .logprob = 0, .top_logprob_mean = -50, .kind = TokenKind::kSampled});
    EXPECT_EQ(WeightOf(sure, weight), 1);
    hopeless.Add({.id = 1, .logprob = -5000, .top_logprob_mean = 0, .kind = TokenKind::kSampled});
    EXPECT_EQ(WeightOf(hopeless, weight), 0x1p-1000);
  }
}

TEST(VoteWeightTest, WeightsOfLikeSizeAddUpExactlyInAnyOrder) {
  std::vector<double> weights;
  for (int i = 0; i < 64; ++i) {
    TraceConfidence trace(4);
    trace.Add({.id = 1, .logprob = -0.0017f * static_cast<float>(i), .kind = TokenKind::kSampled});
    weights.push_back(WeightOf(trace, VoteWeight::kMeanProbability));
  }
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  EXPECT_EQ(std::accumulate(weights.rbegin(), weights.rend(), 0.0), sum);
}

struct SettledCase {
  std::vector<std::string> votes;
  int to_come;
  bool settled;
};

class SettledTest : public testing::TestWithParam<SettledCase> {};

TEST_P(SettledTest, StopsOnceTheVotesToComeCannotEvenTie) {
  Ballot ballot;
  for (size_t i = 0; i < GetParam().votes.size(); ++i) {
    ballot.Add(A(static_cast<int>(i)), GetParam().votes[i]);
  }
  EXPECT_EQ(Stops({}, ballot, GetParam().to_come), GetParam().settled);
}

// Ends, one after another ("-": without an answer), and how many of them it takes to stop; 0: all
// were not enough.
struct StopCase {
  const char* name;
  StopTest test;
  std::string ends;
  int stops_after;
};

class StopRuleTest : public testing::TestWithParam<StopCase> {};

TEST_P(StopRuleTest, StopsAfterSoManyEndsAndNotBefore) {
  Ballot ballot;
  int stopped = 0;
  const std::string& ends = GetParam().ends;
  for (int i = 0; i < static_cast<int>(ends.size()) && stopped == 0; ++i) {
    const std::string answer(1, ends[static_cast<size_t>(i)]);
    ballot.Add(A(i), answer == "-" ? std::nullopt : std::optional(answer));
    if (Stops(GetParam().test, ballot, 100)) stopped = i + 1;
  }
  EXPECT_EQ(stopped, GetParam().stops_after);
}

constexpr StopTest Beta(double certainty) { return {StopRule::kBeta, certainty, 0}; }
constexpr StopTest Votes(StopRule rule, int votes) { return {rule, 0, votes}; }

INSTANTIATE_TEST_SUITE_P(
    Rules, StopRuleTest,
    testing::Values(StopCase{"None", {StopRule::kNone, 0, 0}, "aaaaaaaa", 0},
                    StopCase{"BetaOfFour", Beta(0.95), "aaaaa", 4},
                    StopCase{"BetaOfThree", Beta(0.9375), "aaaaa", 3},
                    StopCase{"BetaContested", Beta(0.95), "aabaaaa", 7},
                    StopCase{"BetaLooksAtTheTwoFirst", Beta(0.95), "abcaaaaa", 8},
                    StopCase{"BetaWithoutVotes", Beta(0.6), "-----", 0},
                    StopCase{"Window", Votes(StopRule::kWindow, 3), "aaaa", 3},
                    StopCase{"WindowsDoNotSlide", Votes(StopRule::kWindow, 3), "baaabb", 0},
                    StopCase{"SecondWindow", Votes(StopRule::kWindow, 3), "abaccc", 6},
                    StopCase{"WindowWithASilentOne", Votes(StopRule::kWindow, 3), "aa-aaa", 6},
                    StopCase{"SilentWindow", Votes(StopRule::kWindow, 2), "----", 0},
                    StopCase{"First", Votes(StopRule::kFirst, 3), "a-bc", 3},
                    StopCase{"Quorum", Votes(StopRule::kQuorum, 3), "abab-a", 6},
                    StopCase{"NoQuorum", Votes(StopRule::kQuorum, 3), "aabbcc", 0}),
    [](const auto& param) { return param.param.name; });

TEST(LeaderProbabilityTest, IsTheBetaRules) {
  EXPECT_EQ(LeaderProbability(0, 0), 0.5);
  EXPECT_EQ(LeaderProbability(1, 0), 0.75);
  EXPECT_EQ(LeaderProbability(3, 0), 0.9375);
  EXPECT_EQ(LeaderProbability(2, 1), 0.6875);
  EXPECT_EQ(LeaderProbability(5, 5), 0.5);
  EXPECT_NEAR(LeaderProbability(40, 24), 0.9768, 1e-4);
  EXPECT_LE(LeaderProbability(64, 0), 1);
}

INSTANTIATE_TEST_SUITE_P(Cases, SettledTest,
                         testing::Values(SettledCase{{}, 1, false}, SettledCase{{}, 0, false},
                                         SettledCase{{"a"}, 1, false}, SettledCase{{"a"}, 0, true},
                                         SettledCase{{"a", "a"}, 1, true},
                                         SettledCase{{"a", "a"}, 2, false},
                                         SettledCase{{"a", "b"}, 0, false},
                                         SettledCase{{"a", "b", "a", "a"}, 1, true},
                                         SettledCase{{"a", "b", "a", "a"}, 2, false},
                                         SettledCase{{"b", "a", "a", "a", "a"}, 3, false},
                                         SettledCase{{"a", "a", "a", "a", "a"}, 4, true}));

}  // namespace
}  // namespace conclave::router
