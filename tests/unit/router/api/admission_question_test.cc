#include "router/api/admission_question.h"

#include <gtest/gtest.h>

#include "common/check.h"

// What a request is taken to cost before it has cost anything.
namespace conclave::router {
namespace {

// Agents think for 40 tokens, end that with 4, and answer with 60.
constexpr int kGrant = 40 + 4 + 60;

class AdmissionQuestionTest : public testing::Test {
 protected:
  AdmissionQuestionTest() {
    model_.name = "m";
    model_.max_positions = 1024;
    model_.max_agents = 64;
    model_.decision_version = kDecisionVersion;
    model_.profile.thinks = true;
    model_.profile.thinking_tokens = 40;
    model_.profile.end_thinking_tokens = 4;
    model_.profile.answer_tokens = 60;
    model_.profile.aggregate_text = "{question}{candidates}";
    model_.profile.candidate_line = "{answer}";
    model_.profile.split_text = "{question}";
    model_.profile.join_text = "{question}{candidates}";
    model_.profile.join_line = "{part}{answer}";
    request_.messages = {{Role::kUser, {{"What?"}}}};
    request_.mode = Mode::kContemplating;
    request_.max_agents = 8;
    request_.aggregation = Aggregation::kVote;
  }

  // Of the request as it is now.
  AdmissionQuestion Question() const {
    const auto plan = MakePlan(request_, model_, Limits{});
    CHECK(plan.ok());
    return AdmissionOf(*plan, "acme");
  }

  Request request_;
  ModelDescription model_;
};

TEST_F(AdmissionQuestionTest, OneAgentIsItsBudgets) {
  request_.max_agents.reset();
  request_.aggregation = Aggregation::kAuto;
  request_.mode = Mode::kThinking;
  EXPECT_EQ(Question().tenant, "acme");
  EXPECT_EQ(Question().agents, 1);
  EXPECT_EQ(Question().tokens, kGrant);
  request_.total_tokens = 50;
  EXPECT_EQ(Question().tokens, 50);
}

TEST_F(AdmissionQuestionTest, AgentsThatEnterTogetherAreAllCountedAndSoIsWhatMerges) {
  EXPECT_EQ(Question().agents, 8);
  EXPECT_EQ(Question().tokens, 8 * kGrant);
  request_.aggregation = Aggregation::kSynthesise;
  EXPECT_EQ(Question().agents, 8) << "it takes the place of one that has ended";
  EXPECT_EQ(Question().tokens, 9 * kGrant);
}

TEST_F(AdmissionQuestionTest, OfWavesTheFirstIsCertainAndTheWidestTakesThePlaces) {
  request_.wave = 3;
  EXPECT_EQ(Question().agents, 3);
  EXPECT_EQ(Question().tokens, 3 * kGrant);
  request_.min_agents = 2;
  request_.wave = 1;
  EXPECT_EQ(Question().agents, 2) << "the first wave has the minimum";
  EXPECT_EQ(Question().tokens, 2 * kGrant);
}

TEST_F(AdmissionQuestionTest, EachRoundCostsWhatTheFirstOneDoes) {
  request_.strategy = Strategy::kRefine;
  request_.rounds = 2;
  EXPECT_EQ(Question().agents, 8) << "one round at a time";
  EXPECT_EQ(Question().tokens, 3 * 8 * kGrant);
  request_.wave = 2;
  EXPECT_EQ(Question().agents, 2);
  EXPECT_EQ(Question().tokens, 3 * 2 * kGrant);
}

TEST_F(AdmissionQuestionTest, PartsEnterTogetherBetweenWhatSplitsAndWhatJoins) {
  request_.strategy = Strategy::kDecompose;
  request_.wave = 2;
  EXPECT_EQ(Question().agents, 8);
  EXPECT_EQ(Question().tokens, (1 + 8 + 1) * kGrant);
}

TEST_F(AdmissionQuestionTest, CopiesOfAgentsAreBesideTheTotal) {
  request_.probes = ProbeChoice{.every = 16, .answer_tokens = 5, .agree = {}};
  constexpr int kCopies = 40 / 16 * (4 + 5);
  EXPECT_EQ(Question().tokens, 8 * kGrant + 8 * kCopies);
  request_.total_tokens = 7 * kGrant;
  EXPECT_EQ(Question().agents, 7) << "narrowed to the total";
  EXPECT_EQ(Question().tokens, 7 * kGrant + 7 * kCopies);
  request_.total_tokens.reset();
  request_.wave = 3;
  request_.strategy = Strategy::kRefine;
  EXPECT_EQ(Question().tokens, 2 * 3 * (kGrant + kCopies));
}

TEST_F(AdmissionQuestionTest, NoMoreThanTheTotalIsTaken) {
  request_.aggregation = Aggregation::kAuto;
  request_.min_agents = 8;
  request_.total_tokens = 8 * kGrant + 10;
  EXPECT_EQ(Question().tokens, 8 * kGrant + 10) << "what is left merges";
}

}  // namespace
}  // namespace conclave::router
