#include "router/contemplation/plan.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "common/status_details.h"

namespace conclave::router {
namespace {

Request Question() {
  Request request;
  request.id = "r";
  request.messages = {{.role = Role::kUser, .parts = {{.text = "why?"}}}};
  request.mode = Mode::kContemplating;
  return request;
}

ModelDescription Model() {
  ModelDescription model;
  model.name = "m";
  model.fingerprint = "f";
  model.max_positions = 1000;
  model.max_agents = 16;
  model.decision_version = kDecisionVersion;
  model.vocabulary = 500;
  model.profile.thinks = true;
  model.profile.thinking_tokens = 100;
  model.profile.answer_tokens = 20;
  model.profile.end_thinking_tokens = 2;
  model.profile.aggregate_text = "{question} {candidates}";
  model.profile.candidate_line = "{index}. {answer}";
  return model;
}

int64_t GrantsOf(const Plan& plan) {
  int64_t sum = plan.aggregation_reserve;
  for (const AgentRecipe& agent : plan.agents) sum += agent.grant;
  return sum;
}

TEST(PlanTest, ARequestWithoutAModeThinksWhereTheModelCan) {
  Request request = Question();
  request.mode.reset();
  EXPECT_EQ(MakePlan(request, Model(), Limits())->mode, Mode::kThinking);
  ModelDescription plain = Model();
  plain.profile.thinks = false;
  EXPECT_EQ(MakePlan(request, plain, Limits())->mode, Mode::kInstant);
}

TEST(PlanTest, RolesStandBehindTheSharedQuestionInTurn) {
  Request request = Question();
  request.max_agents = 5;
  request.roles = {"Doubt.", "Believe."};
  const auto plan = MakePlan(request, Model(), Limits());
  ASSERT_TRUE(plan.ok()) << plan.status();
  for (size_t i = 0; i < 5; ++i) {
    const AgentRecipe& agent = plan->agents[i];
    EXPECT_EQ(agent.append, i % 2 == 0 ? "\n\nDoubt." : "\n\nBelieve.");
    EXPECT_TRUE(agent.messages.empty()) << "the question's turn is the family's";
  }
  EXPECT_EQ(plan->synthesis.append, "") << "who merges plays none";
}

TEST(PlanTest, TemperaturesAreALadder) {
  Request request = Question();
  request.max_agents = 4;
  request.sampling.temperature = 0.5f;
  request.temperatures = {0, 0.7f, 1.5f};
  const auto plan = MakePlan(request, Model(), Limits());
  ASSERT_TRUE(plan.ok()) << plan.status();
  std::vector<float> drawn_at;
  for (const AgentRecipe& agent : plan->agents) drawn_at.push_back(agent.sampling.temperature);
  EXPECT_EQ(drawn_at, (std::vector<float>{0, 0.7f, 1.5f, 0}));
  EXPECT_EQ(plan->synthesis.sampling.temperature, 0.5f);
}

TEST(PlanTest, EveryAgentIsToldHowItStopsAndWhatToTell) {
  Request request = Question();
  request.stop = {"END"};
  request.stop_tokens = {499};
  request.min_tokens = 30;
  request.top_logprobs = 5;
  ModelDescription model = Model();
  model.profile.end_tokens = {7};
  model.profile.sampling.temperature = 0.6f;

  const auto plan = MakePlan(request, model, Limits());

  ASSERT_TRUE(plan.ok()) << plan.status();
  std::vector<AgentRecipe> all = plan->agents;
  all.push_back(plan->synthesis);
  for (const AgentRecipe& agent : all) {
    EXPECT_EQ(agent.stop_tokens, request.stop_tokens);
    EXPECT_EQ(agent.budget.min_tokens, 30);
    EXPECT_EQ(agent.top_logprobs, 5);
  }
  EXPECT_TRUE(plan->request.include.tokens);
  EXPECT_EQ(plan->settings.sampling.temperature, 0.6f);
  EXPECT_EQ(plan->settings.budget, plan->agents[0].budget);
  EXPECT_EQ(plan->settings.end_tokens, std::vector<TokenId>{7});
  EXPECT_EQ(plan->settings.stop_tokens, request.stop_tokens);
  EXPECT_EQ(plan->settings.stop, request.stop);
}

std::string FieldOf(const Request& request, const ModelDescription& model,
                    absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
  const absl::Status status = MakePlan(request, model, Limits()).status();
  EXPECT_EQ(status.code(), code) << status;
  const StatusDetails details = DetailsOf(status);
  return details.fields.empty() ? "" : details.fields[0].first;
}

ModelDescription Aggregator() {
  ModelDescription model = Model();
  model.name = "big";
  model.fingerprint = "x";
  model.max_positions = 2000;
  model.profile.thinking_tokens = 300;
  model.profile.answer_tokens = 40;
  model.profile.end_thinking_tokens = 5;
  model.profile.sampling.temperature = 0.25f;
  model.profile.sampling.logit_bias = {{9, 1.0f}};
  return model;
}

TEST(PlanTest, APassOfAnotherModelHasThatModelsDefaults) {
  Request request = Question();
  request.max_agents = 4;
  request.stop_tokens = {400};
  request.sampling.logit_bias = {{3, 1.0f}};
  request.sampling.top_k = 7;
  ModelDescription small = Aggregator();
  small.vocabulary = 300;  // Lacks 400, which is none of its ids.

  const auto plan = MakePlan(request, Model(), Limits(), &small);

  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->synthesis.id, MakeAgentId(kAggregateStage, 0, 0));
  EXPECT_EQ(plan->synthesis.grant, 300 + 5 + 40);
  EXPECT_EQ(plan->synthesis.budget.thinking_tokens, 300);
  EXPECT_EQ(plan->synthesis.sampling.temperature, 0.25f);
  EXPECT_EQ(plan->synthesis.sampling.top_k, 7);
  EXPECT_EQ(plan->synthesis.sampling.logit_bias, small.profile.sampling.logit_bias);
  EXPECT_TRUE(plan->synthesis.stop_tokens.empty());
  EXPECT_EQ(plan->agents[0].grant, 100 + 2 + 20);
  EXPECT_EQ(plan->agents[0].stop_tokens, request.stop_tokens);
  EXPECT_EQ(plan->total_tokens, 4 * 122 + 345) << "out of the same total";
  EXPECT_EQ(plan->aggregator->model, "big");
  EXPECT_EQ(plan->aggregator->fingerprint, "x");
  EXPECT_EQ(&plan->pass_profile(), &plan->aggregator->profile);
}

std::string AggregatorFieldOf(const Request& request, const ModelDescription& aggregator,
                              absl::StatusCode code = absl::StatusCode::kInvalidArgument) {
  const absl::Status status = MakePlan(request, Model(), Limits(), &aggregator).status();
  EXPECT_EQ(status.code(), code) << status;
  const StatusDetails details = DetailsOf(status);
  return details.fields.empty() ? "" : details.fields[0].first;
}

TEST(PlanTest, APassOfAnotherModelKeepsThatModelsLimits) {
  ModelDescription small = Aggregator();
  small.max_positions = 200;
  Request request = Question();
  request.answer_tokens = 201;
  EXPECT_EQ(AggregatorFieldOf(request, small), "budget.answer_tokens");
  request.answer_tokens = 10;
  request.thinking_tokens = 500;
  EXPECT_EQ(AggregatorFieldOf(request, small), "budget.thinking_tokens");
  request.thinking_tokens = 185;
  EXPECT_EQ(AggregatorFieldOf(request, small), "contemplation.aggregator_model")
      << "nothing is left to its prompt";
  request.thinking_tokens = 184;
  EXPECT_TRUE(MakePlan(request, Model(), Limits(), &small).ok());
  small.profile.thinks = false;
  request.min_tokens = 11;
  EXPECT_EQ(AggregatorFieldOf(request, small), "budget.min_tokens");
  small.vocabulary = 0;
  EXPECT_EQ(AggregatorFieldOf(request, small, absl::StatusCode::kUnimplemented),
            "budget.min_tokens");
}

TEST(PlanTest, AReplayOfAnotherAggregationIsAborted) {
  Request request = Question();
  request.replay = ReplaySpec{};
  request.replay->decision_version = kDecisionVersion;
  request.replay->aggregator_fingerprint = "x";
  const ModelDescription same = Aggregator();
  EXPECT_TRUE(MakePlan(request, Model(), Limits(), &same).ok());
  EXPECT_TRUE(absl::IsAborted(MakePlan(request, Model(), Limits()).status()));
  ModelDescription other = same;
  other.fingerprint = "y";
  EXPECT_TRUE(absl::IsAborted(MakePlan(request, Model(), Limits(), &other).status()));
}

TEST(PlanTest, TokensThatTheVocabularyLacksAreNamed) {
  Request request = Question();
  request.stop_tokens = {1, 500};
  EXPECT_EQ(FieldOf(request, Model()), "stop_tokens[1]");
  request.stop_tokens.clear();
  request.sampling.logit_bias = {{499, 1.0f}, {501, 1.0f}};
  EXPECT_EQ(FieldOf(request, Model()), "sampling.logit_bias[501]");
}

TEST(PlanTest, NobodyMayHaveToSayMoreThanHeMay) {
  Request request = Question();
  request.mode = Mode::kInstant;
  request.min_tokens = 20;
  EXPECT_TRUE(MakePlan(request, Model(), Limits()).ok());
  request.total_tokens = 19;
  EXPECT_EQ(FieldOf(request, Model()), "budget.min_tokens");
  request.total_tokens.reset();
  request.min_tokens = 21;
  EXPECT_EQ(FieldOf(request, Model()), "budget.min_tokens");
}

// They would pass over it in silence.
TEST(PlanTest, WhatWorkersOfTheEarlierVersionDoNotKnowIsRefused) {
  ModelDescription earlier = Model();
  earlier.vocabulary = 0;
  constexpr auto kNotYet = absl::StatusCode::kUnimplemented;
  Request request = Question();
  request.sampling.logit_bias = {{499, 1.0f}};
  EXPECT_TRUE(MakePlan(request, earlier, Limits()).ok());
  request.top_logprobs = 0;
  EXPECT_EQ(FieldOf(request, earlier, kNotYet), "top_logprobs");
  request.min_tokens = 1;
  EXPECT_EQ(FieldOf(request, earlier, kNotYet), "budget.min_tokens");
  request.stop_tokens = {1};
  EXPECT_EQ(FieldOf(request, earlier, kNotYet), "stop_tokens");
}

TEST(PlanTest, ProbesAreRefusedWhereWorkersWouldNotMakeThem) {
  ModelDescription earlier = Model();
  earlier.decision_version = 2;
  Request request = Question();
  EXPECT_TRUE(MakePlan(request, earlier, Limits()).ok());
  request.probes = ProbeChoice{.every = 64, .answer_tokens = std::nullopt, .agree = std::nullopt};
  EXPECT_EQ(FieldOf(request, earlier, absl::StatusCode::kUnimplemented), "contemplation.probes");
  EXPECT_TRUE(MakePlan(request, Model(), Limits()).ok());
}

TEST(PlanTest, AProbeHasNoMoreTokensThanThereAreBetweenTwo) {
  Request request = Question();
  request.probes = ProbeChoice{.every = 16, .answer_tokens = 14, .agree = std::nullopt};
  EXPECT_TRUE(MakePlan(request, Model(), Limits()).ok());
  request.probes->answer_tokens = 15;
  EXPECT_EQ(FieldOf(request, Model()), "contemplation.probes.every");
  request.probes->answer_tokens.reset();
  EXPECT_EQ(MakePlan(request, Model(), Limits())->agents[0].probe_tokens, 14);
  request.probes->every = 64;
  EXPECT_EQ(MakePlan(request, Model(), Limits())->agents[0].probe_tokens, 20);
  ModelDescription wordy = Model();
  wordy.profile.end_thinking_tokens = 64;
  EXPECT_EQ(FieldOf(request, wordy), "contemplation.probes.every");
}

TEST(PlanTest, WhatProbesCostAtMostIsKnown) {
  Request request = Question();
  request.probes = ProbeChoice{.every = 30, .answer_tokens = 8, .agree = std::nullopt};
  EXPECT_EQ(MakePlan(request, Model(), Limits())->probe_reserve, 3 * (2 + 8));
  request.probes.reset();
  EXPECT_EQ(MakePlan(request, Model(), Limits())->probe_reserve, 0);
}

TEST(PlanTest, TheRoundsAgentsHaveTheBarAndTheAggregationPassHasNone) {
  Request request = Question();
  request.confidence_bar = 5.5;
  auto plan = MakePlan(request, Model(), Limits());
  ASSERT_TRUE(plan.ok()) << plan.status();
  for (const AgentRecipe& agent : plan->agents) {
    EXPECT_EQ(agent.bar, (ConfidenceBar{.bar = 5.5, .window = 2048}));
  }
  EXPECT_EQ(plan->synthesis.bar, ConfidenceBar{});
  request.confidence_window = 9;
  plan = MakePlan(request, Model(), Limits());
  EXPECT_EQ(plan->agents[0].bar.window, 9);
  EXPECT_EQ(plan->confidence_window, 9);
}

TEST(PlanTest, AWeightedVoteReservesNothingAndWeighsByTheLowestWindowUnlessToldOtherwise) {
  Request request = Question();
  EXPECT_EQ(MakePlan(request, Model(), Limits())->vote_weight, VoteWeight::kOne);
  request.aggregation = Aggregation::kWeightedVote;
  auto plan = MakePlan(request, Model(), Limits());
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->vote_weight, VoteWeight::kTop20LowestWindow);
  EXPECT_EQ(plan->aggregation_reserve, 0);
  request.vote_weight = VoteWeight::kTop20Mean;
  EXPECT_EQ(MakePlan(request, Model(), Limits())->vote_weight, VoteWeight::kTop20Mean);
}

TEST(PlanTest, PenaltiesAndBiasesOfTheRequestGoBeforeTheModelsOwn) {
  ModelDescription model = Model();
  model.profile.sampling.presence_penalty = 0.5f;
  model.profile.sampling.frequency_penalty = 0.25f;
  model.profile.sampling.logit_bias = {{1, 2}};
  Request request = Question();
  request.sampling.repetition_penalty = 1.5f;
  request.sampling.presence_penalty = 0;
  auto plan = MakePlan(request, model, Limits());
  ASSERT_TRUE(plan.ok()) << plan.status();
  const Sampling& sampling = plan->agents[0].sampling;
  EXPECT_EQ(sampling.repetition_penalty, 1.5f);
  EXPECT_EQ(sampling.presence_penalty, 0.0f);
  EXPECT_EQ(sampling.frequency_penalty, 0.25f);
  EXPECT_EQ(sampling.logit_bias, model.profile.sampling.logit_bias);
  request.sampling.logit_bias = {{7, -1}};
  plan = MakePlan(request, model, Limits());
  EXPECT_EQ(plan->agents[0].sampling.logit_bias, request.sampling.logit_bias);
  EXPECT_EQ(plan->synthesis.sampling, plan->agents[0].sampling);
}

TEST(PlanTest, SeveralAgentsOfAModelThatDrawsGreedilyAreDrawnApart) {
  ModelDescription greedy = Model();
  greedy.profile.sampling.temperature = 0;
  Request request = Question();
  const auto plan = MakePlan(request, greedy, Limits());
  ASSERT_TRUE(plan.ok()) << plan.status();

  EXPECT_EQ(plan->agents.at(7).sampling.temperature, 1);
  EXPECT_EQ(plan->settings.sampling.temperature, 1);
  EXPECT_EQ(plan->synthesis.sampling.temperature, 0);
  ModelDescription warm = Model();
  warm.profile.sampling.temperature = 0.5f;
  EXPECT_EQ(MakePlan(request, warm, Limits())->agents.at(7).sampling.temperature, 0.5f);
}

TEST(PlanTest, WhoAsksForGreedyAgentsOrForOneHasThem) {
  ModelDescription greedy = Model();
  greedy.profile.sampling.temperature = 0;
  Request request = Question();
  request.max_agents = 1;
  EXPECT_EQ(MakePlan(request, greedy, Limits())->agents.at(0).sampling.temperature, 0);
  request.max_agents = 8;
  request.sampling.temperature = 0.0f;
  EXPECT_EQ(MakePlan(request, greedy, Limits())->agents.at(7).sampling.temperature, 0);
  request.sampling.temperature.reset();
  request.max_agents.reset();
  request.mode = Mode::kThinking;
  EXPECT_EQ(MakePlan(request, greedy, Limits())->agents.at(0).sampling.temperature, 0);
}

TEST(PlanTest, ContemplationTakesEightAgentsUnlessToldOtherwise) {
  const auto plan = MakePlan(Question(), Model(), Limits());
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->agents.size(), 8u);
  for (size_t i = 0; i < plan->agents.size(); ++i) {
    EXPECT_EQ(plan->agents[i].id, MakeAgentId(kThinkStage, 0, static_cast<int>(i)));
    EXPECT_EQ(plan->agents[i].grant, 100 + 2 + 20);
    EXPECT_EQ(plan->agents[i].thinking, Thinking::kOn);
  }
}

TEST(PlanTest, AnInstantAgentHasOnlyAnswerTokens) {
  Request request = Question();
  request.mode = Mode::kInstant;
  const auto plan = MakePlan(request, Model(), Limits());
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->agents.size(), 1u);
  EXPECT_EQ(plan->agents[0].grant, 20);
  EXPECT_EQ(plan->agents[0].thinking, Thinking::kOff);
}

TEST(PlanTest, GrantsAndReserveNeverExceedTheTotalWhateverItIs) {
  for (int64_t total = 1; total < 1500; total += 7) {
    for (const Aggregation how :
         {Aggregation::kAuto, Aggregation::kVote, Aggregation::kSynthesise}) {
      Request request = Question();
      request.total_tokens = total;
      request.min_agents = 1;
      request.aggregation = how;
      const auto plan = MakePlan(request, Model(), Limits());
      if (!plan.ok()) {
        EXPECT_TRUE(absl::IsInvalidArgument(plan.status())) << plan.status();
        continue;
      }
      EXPECT_LE(GrantsOf(*plan), total) << "total " << total;
      EXPECT_GE(plan->agents.size(), 1u);
    }
  }
}

TEST(PlanTest, TheWidthIsNarrowedToWhatFitsTheTotal) {
  Request request = Question();
  request.min_agents = 2;
  request.aggregation = Aggregation::kVote;
  request.total_tokens = 3 * 122 + 50;
  const auto plan = MakePlan(request, Model(), Limits());
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->agents.size(), 3u);
}

TEST(PlanTest, TheSameRequestGivesTheSamePlan) {
  const auto one = MakePlan(Question(), Model(), Limits());
  const auto two = MakePlan(Question(), Model(), Limits());
  ASSERT_TRUE(one.ok() && two.ok());
  EXPECT_EQ(one->seed, two->seed);
  EXPECT_EQ(GrantsOf(*one), GrantsOf(*two));
  EXPECT_EQ(one->deadline, two->deadline);
}

struct BadRequest {
  std::string name;  // Also what the message must name.
  std::function<void(Request&)> spoil;
};

class BadRequestTest : public testing::TestWithParam<BadRequest> {};

TEST_P(BadRequestTest, IsRefusedWithTheFieldAsDetail) {
  Request request = Question();
  GetParam().spoil(request);
  const auto plan = MakePlan(request, Model(), Limits());
  ASSERT_FALSE(plan.ok());
  EXPECT_TRUE(absl::IsInvalidArgument(plan.status())) << plan.status();
  const StatusDetails details = DetailsOf(plan.status());
  ASSERT_EQ(details.fields.size(), 1u) << plan.status();
  EXPECT_EQ(details.fields[0].first, GetParam().name);
  EXPECT_NE(plan.status().message().find(GetParam().name), std::string::npos) << plan.status();
}

INSTANTIATE_TEST_SUITE_P(
    Rows, BadRequestTest,
    testing::Values(
        BadRequest{"budget.thinking_tokens", [](Request& r) { r.thinking_tokens = 1001; }},
        BadRequest{"budget.thinking_tokens", [](Request& r) { r.thinking_tokens = 0; }},
        BadRequest{"budget.answer_tokens", [](Request& r) { r.answer_tokens = 1001; }},
        BadRequest{"contemplation.max_agents", [](Request& r) { r.max_agents = 65; }},
        BadRequest{"contemplation.max_agents", [](Request& r) { r.max_agents = 0; }},
        BadRequest{"contemplation.min_agents",
                   [](Request& r) { r.min_agents = 9, r.max_agents = 8; }},
        BadRequest{"contemplation", [](Request& r) { r.mode = Mode::kThinking, r.max_agents = 2; }},
        BadRequest{"budget.total_tokens", [](Request& r) { r.total_tokens = 5; }},
        BadRequest{"budget.total_tokens", [](Request& r) { r.total_tokens = (1 << 20) + 1; }},
        BadRequest{"contemplation.patience", [](Request& r) { r.patience = absl::Seconds(31); }},
        BadRequest{"budget.deadline", [](Request& r) { r.deadline = absl::Minutes(11); }}));

TEST(PlanTest, PatienceIsTheServersUnlessTheRequestHasLess) {
  Request request = Question();
  EXPECT_EQ(MakePlan(request, Model(), Limits())->patience, absl::Seconds(30));
  request.patience = absl::Seconds(30);
  EXPECT_EQ(MakePlan(request, Model(), Limits())->patience, absl::Seconds(30));
  request.patience = absl::Milliseconds(1);
  EXPECT_EQ(MakePlan(request, Model(), Limits())->patience, absl::Milliseconds(1));
}

TEST(PlanTest, AReplayOfOtherRulesIsAborted) {
  Request request = Question();
  request.replay.emplace().decision_version = kDecisionVersion + 1;
  EXPECT_TRUE(absl::IsAborted(MakePlan(request, Model(), Limits()).status()));
}

TEST(PlanTest, AReplaysSeedMustNotDifferFromAGivenOne) {
  Request request = Question();
  request.seed = 1;
  request.seed_given = true;
  request.replay.emplace().decision_version = kDecisionVersion;
  request.replay->seed = 2;
  EXPECT_TRUE(absl::IsInvalidArgument(MakePlan(request, Model(), Limits()).status()));
  request.replay->seed = 1;
  EXPECT_TRUE(MakePlan(request, Model(), Limits()).ok());
}

}  // namespace
}  // namespace conclave::router
