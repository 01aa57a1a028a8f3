#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <vector>

#include "common/status.h"
#include "common/wire/family_wire.h"
#include "router/api/request_parser.h"
#include "router/contemplation/plan.h"
#include "tests/fuzz/counted_memory.h"
#include "tests/fuzz/mutate.h"

// Messages of strangers, mutated from seeds: they are understood or refused, naming the field. No
// crash, no more memory than a bound. A failure names its seed.
namespace conclave::router {
namespace {

constexpr size_t kMostBytes = size_t{32} << 20;

const std::vector<std::string> kWords = {
    std::string("\x08\x01"),     std::string("\x08\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"),
    std::string("\x12\x00", 2),  std::string("\x0A\x01\x61"),
    std::string("\xFF\x7F"),     std::string("\x80\x80\x80\x80"),
    std::string(8, '\xFF'),      std::string("\x0D\x00\x00\xC0\x7F", 5),
    std::string("\xED\xA0\x80"), std::string(4, '\0')};

v1::GenerateRequest FullRequest() {
  v1::GenerateRequest request;
  request.set_request_id("r-1");
  request.set_model("m");
  auto* message = request.add_messages();
  message->set_role(v1::ROLE_USER);
  message->add_parts()->set_text("How many?");
  request.set_mode(v1::MODE_CONTEMPLATING);
  auto& how = *request.mutable_contemplation();
  how.set_min_agents(2);
  how.set_max_agents(5);
  how.set_stop_rule(v1::STOP_RULE_LEADER_BEATS_RUNNER_UP);
  how.set_stop_certainty(0.9);
  how.set_aggregation(v1::AGGREGATION_WEIGHTED_VOTE);
  how.set_vote_weight(v1::VOTE_WEIGHT_TOP20_LOWEST_WINDOW);
  how.set_confidence_window(16);
  how.set_confidence_bar(4);
  how.mutable_patience()->set_seconds(3);
  how.mutable_checker()->mutable_arithmetic()->set_value("7/2");
  how.mutable_checker()->mutable_arithmetic()->add_numbers(7);
  request.mutable_budget()->set_thinking_tokens(100);
  request.mutable_budget()->set_answer_tokens(50);
  request.mutable_budget()->set_total_tokens(2000);
  request.mutable_budget()->mutable_deadline()->set_seconds(9);
  request.mutable_sampling()->set_temperature(0.7f);
  request.mutable_sampling()->set_top_k(40);
  (*request.mutable_sampling()->mutable_logit_bias())[5] = -1;
  request.add_stop("\n\n");
  request.set_seed(4);
  request.mutable_answer_key()->set_kind(v1::AnswerKey::KIND_REGEX);
  request.mutable_answer_key()->set_argument("= (\\d+)");
  request.add_include(v1::INCLUDE_TOKENS);
  request.mutable_keep_for()->set_seconds(1);
  return request;
}

v1::GenerateRequest ReplayRequest() {
  v1::GenerateRequest request = FullRequest();
  request.clear_seed();
  v1::Replay& replay = *request.mutable_replay();
  replay.set_seed(4);
  replay.set_fingerprint("f");
  replay.set_decision_version(1);
  v1::Decision& decision = *replay.add_decisions();
  decision.set_kind(v1::Decision::KIND_DROP);
  decision.set_clock(7);
  decision.add_agents(1);
  decision.add_cuts()->set_agent(1);
  return request;
}

ModelDescription SmallModel() {
  ModelDescription model;
  model.name = "m";
  model.fingerprint = "f";
  model.max_positions = 4096;
  model.max_agents = 8;
  model.kv_tokens = 65536;
  model.profile.aggregate_text = "{question}{candidates}";
  model.profile.candidate_line = "{index}{answer}";
  model.profile.max_candidates = 4;
  model.profile.thinks = true;
  model.profile.thinking_tokens = 64;
  model.profile.answer_tokens = 32;
  return model;
}

TEST(WireFuzzTest, RequestsAreUnderstoodOrRefusedByField) {
  const std::vector<std::string> seeds = {FullRequest().SerializeAsString(),
                                          ReplayRequest().SerializeAsString()};
  const ModelDescription model = SmallModel();
  const google::protobuf::LogSilencer quiet;  // It tells of every text that is not UTF-8.
  int parsed = 0, understood = 0, planned = 0;
  const int rounds = Rounds(20'000);
  for (int round = 0; round < rounds; ++round) {
    SCOPED_TRACE(round);
    Random random(SeedOf(round));
    std::string bytes = seeds[Below(random, seeds.size())];
    for (size_t n = 1 + Below(random, 3); n > 0; --n) Mutate(random, kWords, bytes);
    v1::GenerateRequest wire;
    if (!wire.ParseFromString(bytes)) continue;
    ++parsed;
    const CountedMemory memory;
    (void)ParseStreamTerms(wire, absl::Seconds(60));
    const auto request = ParseRequest(wire, {.seed = 1, .id = "drawn", .time_of_day = 0});
    if (request.ok()) {
      ++understood;
      const auto plan = MakePlan(*request, model, Limits{});
      planned += plan.ok() ? 1 : 0;
      ASSERT_TRUE(!plan.ok() || plan->agents.size() <= 64);
    } else {
      ASSERT_FALSE(request.status().message().empty());
    }
    ASSERT_LT(memory.peak(), kMostBytes);
  }
  std::printf("requests: %d of %d mutants are messages, %d understood, %d planned\n", parsed,
              rounds, understood, planned);
  EXPECT_GT(planned, rounds / 100);
  EXPECT_LT(understood, parsed);
}

v1::RunRequest Add() {
  v1::RunRequest request;
  v1::AgentRecipe& recipe = *request.mutable_add()->add_agents();
  recipe.set_agent(1);
  recipe.set_append("more");
  recipe.set_thinking(v1::THINKING_ON);
  recipe.mutable_sampling()->set_top_p(0.5f);
  recipe.set_grant(30);
  recipe.add_stop("x");
  v1::ProducedToken& token = *recipe.add_produced();
  token.set_id(3);
  token.set_kind(v1::TOKEN_KIND_SAMPLED);
  *request.mutable_add()->add_agents() = recipe;
  request.mutable_add()->mutable_agents(1)->set_agent(2);
  return request;
}

v1::RunRequest Open() {
  v1::RunRequest request;
  request.mutable_open()->set_request_id("r");
  *request.mutable_open()->add_messages() = FullRequest().messages(0);
  return request;
}

v1::RunResponse Delta() {
  v1::RunResponse response;
  v1::FamilyDelta& delta = *response.mutable_delta();
  delta.set_agent(1);
  delta.set_first(2);
  for (int i = 0; i < 3; ++i) {
    v1::ProducedToken& token = *delta.add_tokens();
    token.set_id(i);
    token.set_logprob(-1);
    token.set_kind(v1::TOKEN_KIND_SAMPLED);
    token.set_text_end(i);
  }
  delta.set_thinking("aa");
  delta.mutable_end()->set_cause(v1::AgentEnd::CAUSE_STOP);
  return response;
}

template <typename Wire>
void Fuzz(const std::vector<Wire>& seeds) {
  const google::protobuf::LogSilencer quiet;
  int parsed = 0, understood = 0;
  for (int round = 0; round < Rounds(15'000); ++round) {
    SCOPED_TRACE(round);
    Random random(SeedOf(round));
    std::string bytes = seeds[Below(random, seeds.size())].SerializeAsString();
    for (size_t n = 1 + Below(random, 3); n > 0; --n) Mutate(random, kWords, bytes);
    Wire wire;
    if (!wire.ParseFromString(bytes)) continue;
    ++parsed;
    const CountedMemory memory;
    const auto read = FromWire(wire);
    understood += read.ok() ? 1 : 0;
    ASSERT_TRUE(read.ok() || !read.status().message().empty());
    ASSERT_LT(memory.peak(), kMostBytes);
  }
  EXPECT_GT(understood, 0);
  EXPECT_LT(understood, parsed);
}

TEST(WireFuzzTest, CommandsOfARouterAreUnderstoodOrRefused) {
  Fuzz<v1::RunRequest>({Open(), Add()});
}

TEST(WireFuzzTest, EventsOfAWorkerAreUnderstoodOrRefused) { Fuzz<v1::RunResponse>({Delta()}); }

}  // namespace
}  // namespace conclave::router
