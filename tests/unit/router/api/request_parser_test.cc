#include "router/api/request_parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "tests/unit/router/api/question.h"

namespace conclave::router {
namespace {

using ::testing::HasSubstr;

TEST(RequestParserTest, WhatTheClientLeavesOpenStaysOpen) {
  const auto request = ParseRequest(Question(), Draws());

  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->id, "drawn");
  EXPECT_EQ(request->seed, 77u);
  EXPECT_FALSE(request->seed_given);
  EXPECT_EQ(request->time_of_day, 1'700'000'000);
  EXPECT_FALSE(request->mode || request->min_agents || request->max_agents);
  EXPECT_FALSE(request->thinking_tokens || request->answer_tokens || request->total_tokens);
  EXPECT_FALSE(request->deadline || request->answer_key || request->replay);
  EXPECT_FALSE(request->patience || request->min_tokens || request->top_logprobs);
  EXPECT_TRUE(request->stop_tokens.empty());
  EXPECT_FALSE(request->sampling.temperature || request->sampling.top_k);
  EXPECT_EQ(request->stop_rule, StopRule::kSettled);
  EXPECT_EQ(request->aggregation, Aggregation::kAuto);
  EXPECT_EQ(request->on_loss, OnLoss::kResume);
  EXPECT_FALSE(request->include.thinking || request->include.votes || request->include.tokens ||
               request->include.agent_answers);
}

absl::Status WhyNotTaken(const v1::GenerateRequest& wire) {
  return ParseStreamTerms(wire, absl::Minutes(1)).status();
}

TEST(StreamTermsTest, AreReadAndKeepForIsCapped) {
  v1::GenerateRequest wire = Question();
  EXPECT_EQ(ParseStreamTerms(wire, absl::Minutes(1))->keep_for, absl::ZeroDuration());
  EXPECT_FALSE(ParseStreamTerms(wire, absl::Minutes(1))->resume.has_value());

  wire.mutable_keep_for()->set_seconds(90);
  wire.set_request_id("r");
  wire.mutable_resume()->set_answer_bytes(3);
  wire.mutable_resume()->set_answer_sha256(std::string(32, 'x'));
  const auto terms = ParseStreamTerms(wire, absl::Minutes(1));
  ASSERT_TRUE(terms.ok()) << terms.status();
  EXPECT_EQ(terms->keep_for, absl::Minutes(1));
  EXPECT_EQ(terms->resume->bytes, 3);
  EXPECT_EQ(terms->resume->sha256, std::string(32, 'x'));
  EXPECT_EQ(ParseStreamTerms(wire, absl::Minutes(2))->keep_for, absl::Seconds(90));
}

TEST(StreamTermsTest, NothingIsHeldWithoutAHash) {
  v1::GenerateRequest wire = Question();
  wire.set_request_id("r");
  wire.mutable_resume();
  EXPECT_TRUE(WhyNotTaken(wire).ok()) << WhyNotTaken(wire);
}

TEST(StreamTermsTest, WhatIsWrongIsNamed) {
  v1::GenerateRequest wire = Question();
  wire.mutable_keep_for()->set_seconds(-1);
  EXPECT_THAT(MessageOf(WhyNotTaken(wire)), HasSubstr("keep_for is -1 s"));
  wire.clear_keep_for();

  wire.mutable_resume();
  EXPECT_THAT(MessageOf(WhyNotTaken(wire)), HasSubstr("request_id has 0 bytes"));
  wire.set_request_id("r");
  wire.mutable_resume()->set_answer_bytes(-1);
  EXPECT_THAT(MessageOf(WhyNotTaken(wire)), HasSubstr("resume.answer_bytes is -1"));
  wire.mutable_resume()->set_answer_bytes(1);
  EXPECT_THAT(MessageOf(WhyNotTaken(wire)),
              HasSubstr("resume.answer_sha256 has 0 bytes; a SHA-256 has 32"));
  wire.mutable_resume()->set_answer_bytes(0);
  wire.mutable_resume()->set_answer_sha256("x");
  EXPECT_EQ(WhyNotTaken(wire).code(), absl::StatusCode::kInvalidArgument);
}

TEST(RequestParserTest, EveryFieldOfAFullRequestArrives) {
  v1::GenerateRequest wire = Question();
  wire.set_model("m");
  wire.set_request_id("My-id_1.2:3");
  wire.set_mode(v1::MODE_CONTEMPLATING);
  wire.mutable_contemplation()->set_min_agents(1);
  wire.mutable_contemplation()->set_max_agents(64);
  wire.mutable_contemplation()->set_wave(4);
  wire.mutable_contemplation()->set_strategy(v1::STRATEGY_REFINE);
  wire.mutable_contemplation()->set_rounds(8);
  wire.mutable_contemplation()->set_drafts(3);
  wire.mutable_contemplation()->set_digest_bytes(1 << 20);
  wire.mutable_contemplation()->set_stop_rule(v1::STOP_RULE_NONE);
  wire.mutable_contemplation()->set_aggregation(v1::AGGREGATION_SYNTHESISE);
  wire.mutable_contemplation()->set_aggregator_model("big");
  for (const char* model : {"m", "big"}) wire.mutable_contemplation()->add_agent_models(model);
  wire.mutable_contemplation()->mutable_patience()->set_nanos(1'000'000);
  wire.mutable_budget()->set_thinking_tokens(1);
  wire.mutable_budget()->set_answer_tokens(1 << 24);
  wire.mutable_budget()->set_total_tokens(int64_t{1} << 40);
  wire.mutable_budget()->mutable_deadline()->set_nanos(1'000'000);
  wire.mutable_sampling()->set_temperature(0);
  wire.mutable_sampling()->set_top_k(1024);
  wire.mutable_sampling()->set_repetition_penalty(1.5f);
  wire.mutable_sampling()->set_presence_penalty(-2);
  wire.mutable_sampling()->set_frequency_penalty(2);
  (*wire.mutable_sampling()->mutable_logit_bias())[9] = -100;
  (*wire.mutable_sampling()->mutable_logit_bias())[3] = 100;
  wire.set_seed(0);
  wire.mutable_answer_key()->set_kind(v1::AnswerKey::KIND_JSON_FIELD);
  wire.mutable_answer_key()->set_argument("result");
  wire.add_stop("\n\n");
  wire.add_stop_tokens(7);
  wire.add_stop_tokens(0);
  wire.set_top_logprobs(20);
  wire.mutable_budget()->set_min_tokens(12);
  for (int i = v1::INCLUDE_THINKING; i <= v1::INCLUDE_VOTES; ++i)
    wire.add_include(static_cast<v1::Include>(i));
  wire.set_on_loss(v1::ON_LOSS_FAIL);
  wire.mutable_keep_for();

  const auto request = ParseRequest(wire, Draws());

  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->model, "m");
  EXPECT_EQ(request->id, "My-id_1.2:3");
  EXPECT_EQ(request->mode, Mode::kContemplating);
  EXPECT_EQ(request->min_agents, 1);
  EXPECT_EQ(request->max_agents, 64);
  EXPECT_EQ(request->strategy, Strategy::kRefine);
  EXPECT_EQ(request->rounds, 8);
  EXPECT_EQ(request->drafts, 3);
  EXPECT_EQ(request->digest_bytes, 1 << 20);
  EXPECT_EQ(request->wave, 4);
  EXPECT_EQ(request->stop_rule, StopRule::kNone);
  EXPECT_EQ(request->aggregation, Aggregation::kSynthesise);
  EXPECT_EQ(request->aggregator_model, "big");
  EXPECT_THAT(request->agent_models, testing::ElementsAre("m", "big"));
  EXPECT_EQ(request->patience, absl::Milliseconds(1));
  EXPECT_EQ(request->thinking_tokens, 1);
  EXPECT_EQ(request->answer_tokens, 1 << 24);
  EXPECT_EQ(request->total_tokens, int64_t{1} << 40);
  EXPECT_EQ(request->deadline, absl::Milliseconds(1));
  EXPECT_EQ(request->sampling.temperature, 0.0f);
  EXPECT_EQ(request->sampling.top_k, 1024);
  EXPECT_EQ(request->sampling.repetition_penalty, 1.5f);
  EXPECT_EQ(request->sampling.presence_penalty, -2.0f);
  EXPECT_EQ(request->sampling.frequency_penalty, 2.0f);
  const std::vector<std::pair<TokenId, float>> biases = {{3, 100.0f}, {9, -100.0f}};
  EXPECT_EQ(request->sampling.logit_bias, biases);
  EXPECT_TRUE(request->seed_given);
  EXPECT_EQ(request->seed, 0u);
  EXPECT_EQ(request->answer_key->kind, AnswerKeySpec::Kind::kJsonField);
  EXPECT_EQ(request->answer_key->argument, "result");
  EXPECT_EQ(request->stop, std::vector<std::string>{"\n\n"});
  EXPECT_EQ(request->stop_tokens, (std::vector<TokenId>{7, 0}));
  EXPECT_EQ(request->top_logprobs, 20);
  EXPECT_EQ(request->min_tokens, 12);
  EXPECT_TRUE(request->include.thinking && request->include.votes && request->include.tokens &&
              request->include.agent_answers);
  EXPECT_EQ(request->on_loss, OnLoss::kFail);
}

TEST(RequestParserTest, AutoBeatsTheRunnerUpUnlessTheRequestSaysOtherwise) {
  v1::GenerateRequest wire = Question();
  wire.set_mode(v1::MODE_CONTEMPLATING);
  v1::Contemplation& how = *wire.mutable_contemplation();
  how.set_strategy(v1::STRATEGY_AUTO);
  auto request = ParseRequest(wire, Draws());
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->strategy, Strategy::kAuto);
  EXPECT_EQ(request->effort, Effort::kMedium);
  EXPECT_EQ(request->stop_rule, StopRule::kBeta);
  EXPECT_FALSE(request->max_agents || request->wave || request->stop_certainty);

  how.set_effort(v1::EFFORT_HIGH);
  how.set_stop_certainty(0.75);
  request = ParseRequest(wire, Draws());
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->effort, Effort::kHigh);
  EXPECT_EQ(request->stop_certainty, 0.75);

  how.clear_stop_certainty();
  how.set_stop_rule(v1::STOP_RULE_SETTLED);
  request = ParseRequest(wire, Draws());
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->stop_rule, StopRule::kSettled);
}

TEST(RequestParserTest, AWeightedVoteAndABarArrive) {
  v1::GenerateRequest wire = Question();
  wire.set_mode(v1::MODE_CONTEMPLATING);
  wire.mutable_contemplation()->set_aggregation(v1::AGGREGATION_WEIGHTED_VOTE);
  auto request = ParseRequest(wire, Draws());
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->aggregation, Aggregation::kWeightedVote);
  EXPECT_FALSE(request->vote_weight || request->confidence_bar || request->confidence_window);

  wire.mutable_contemplation()->set_vote_weight(v1::VOTE_WEIGHT_MEAN_PROBABILITY);
  wire.mutable_contemplation()->set_confidence_bar(7.5);
  wire.mutable_contemplation()->set_confidence_window(65536);
  request = ParseRequest(wire, Draws());
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->vote_weight, VoteWeight::kMeanProbability);
  EXPECT_EQ(request->confidence_bar, 7.5);
  EXPECT_EQ(request->confidence_window, 65536);
}

TEST(RequestParserTest, ACheckerArrivesAndStopsTheRoundUnlessItIsToldOtherwise) {
  v1::GenerateRequest wire = Question();
  wire.set_mode(v1::MODE_CONTEMPLATING);
  v1::Contemplation& how = *wire.mutable_contemplation();
  how.mutable_checker()->mutable_arithmetic()->set_value("24");
  how.mutable_checker()->mutable_arithmetic()->add_numbers(3);
  how.set_aggregation(v1::AGGREGATION_CHECK);
  auto request = ParseRequest(wire, Draws());
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->checker, (CheckerSpec{CheckerSpec::Kind::kArithmetic, "24", {3}}));
  EXPECT_EQ(request->stop_rule, StopRule::kAccepted);
  EXPECT_EQ(request->aggregation, Aggregation::kCheck);

  how.set_stop_rule(v1::STOP_RULE_SETTLED);
  EXPECT_EQ(ParseRequest(wire, Draws())->stop_rule, StopRule::kSettled);
  how.set_stop_rule(v1::STOP_RULE_ACCEPTED);
  EXPECT_EQ(ParseRequest(wire, Draws())->stop_rule, StopRule::kAccepted);
  how.clear_stop_rule();
  how.clear_checker();
  EXPECT_EQ(ParseRequest(wire, Draws())->stop_rule, StopRule::kSettled);
}

TEST(RequestParserTest, RolesAndTemperaturesArrive) {
  v1::GenerateRequest wire = Question();
  wire.set_mode(v1::MODE_CONTEMPLATING);
  v1::Contemplation& how = *wire.mutable_contemplation();
  how.set_strategy(v1::STRATEGY_ROLES);
  how.add_roles("Doubt.");
  how.add_roles("Believe.");
  how.add_temperatures(0);
  how.add_temperatures(100);
  how.set_aggregation(v1::AGGREGATION_SELECT);
  const auto request = ParseRequest(wire, Draws());
  ASSERT_TRUE(request.ok()) << request.status();
  EXPECT_EQ(request->roles, (std::vector<std::string>{"Doubt.", "Believe."}));
  EXPECT_EQ(request->temperatures, (std::vector<float>{0, 100}));
  EXPECT_EQ(request->aggregation, Aggregation::kSelect);
}

TEST(RequestParserTest, ProbesArrive) {
  v1::GenerateRequest wire = Question();
  wire.set_mode(v1::MODE_CONTEMPLATING);
  EXPECT_FALSE(ParseRequest(wire, Draws())->probes);
  wire.mutable_contemplation()->mutable_probes()->set_every(64);
  const auto open = ParseRequest(wire, Draws());
  ASSERT_TRUE(open.ok()) << open.status();
  EXPECT_EQ(open->probes->every, 64);
  EXPECT_FALSE(open->probes->answer_tokens || open->probes->agree);

  wire.mutable_contemplation()->mutable_probes()->set_answer_tokens(9);
  wire.mutable_contemplation()->mutable_probes()->set_agree(3);
  const auto full = ParseRequest(wire, Draws());
  EXPECT_EQ(full->probes->answer_tokens, 9);
  EXPECT_EQ(full->probes->agree, 3);
}

TEST(RequestParserTest, AReplayArrivesWithItsDecisionsInOrder) {
  v1::GenerateRequest wire = Question();
  v1::Replay& replay = *wire.mutable_replay();
  replay.set_seed(5);
  replay.set_time_of_day(6);
  replay.set_fingerprint("abc");
  replay.set_decision_version(7);
  replay.set_result_hash("def");
  v1::Decision& drop = *replay.add_decisions();
  drop.set_number(1);
  drop.set_kind(v1::Decision::KIND_DROP);
  drop.set_clock(40);
  drop.add_agents(2);
  drop.add_cuts()->set_agent(2);
  drop.mutable_cuts(0)->set_kept(13);

  const auto request = ParseRequest(wire, Draws());

  ASSERT_TRUE(request.ok()) << request.status();
  ASSERT_TRUE(request->replay);
  EXPECT_EQ(request->replay->seed, 5u);
  EXPECT_EQ(request->replay->time_of_day, 6);
  EXPECT_EQ(request->replay->fingerprint, "abc");
  EXPECT_EQ(request->replay->decision_version, 7);
  EXPECT_EQ(request->replay->result_hash, "def");
  ASSERT_EQ(request->replay->decisions.size(), 1u);
  const Decision& decision = request->replay->decisions[0];
  EXPECT_EQ(decision.number, 1);
  EXPECT_EQ(decision.kind, Decision::Kind::kDrop);
  EXPECT_EQ(decision.clock, 40);
  EXPECT_EQ(decision.agents, std::vector<AgentId>{AgentId{2}});
  EXPECT_EQ(decision.cuts, (std::vector<Cut>{{.agent = AgentId{2}, .kept = 13}}));
}

TEST(RequestParserTest, EachModeIsItself) {
  const std::vector<std::pair<v1::Mode, std::optional<Mode>>> modes = {
      {v1::MODE_UNSPECIFIED, std::nullopt},
      {v1::MODE_INSTANT, Mode::kInstant},
      {v1::MODE_THINKING, Mode::kThinking},
      {v1::MODE_CONTEMPLATING, Mode::kContemplating}};
  for (const auto& [wire_mode, mode] : modes) {
    v1::GenerateRequest wire = Question();
    wire.set_mode(wire_mode);
    EXPECT_EQ(ParseRequest(wire, Draws())->mode, mode);
  }
}

}  // namespace
}  // namespace conclave::router
