#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "common/status.h"
#include "common/status_details.h"
#include "router/api/request_parser.h"
#include "router/contemplation/plan.h"
#include "tests/unit/router/api/question.h"

namespace conclave::router {
namespace {

using Change = std::function<void(v1::GenerateRequest&)>;
using ::testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// A request that must be refused: what makes it bad, and what the complaint must name.
struct Bad {
  const char* name;
  Change change;
  std::string field;
  std::string says;  // The value and the limit.
  absl::StatusCode code = absl::StatusCode::kInvalidArgument;
};

constexpr absl::StatusCode kNotYet = absl::StatusCode::kUnimplemented;

v1::Contemplation& Width(v1::GenerateRequest& r) {
  r.set_mode(v1::MODE_CONTEMPLATING);
  return *r.mutable_contemplation();
}

v1::Decision& ReplayedDecision(v1::GenerateRequest& r) {
  r.mutable_replay()->set_fingerprint("f");
  return *r.mutable_replay()->add_decisions();
}

std::vector<Bad> BadMessages() {
  return {
      {"NoMessages", [](auto& r) { r.clear_messages(); }, "messages", "0 entries; 1 to 1024"},
      {"TooManyMessages",
       [](auto& r) {
         for (int i = 0; i < 1024; ++i) *r.add_messages() = r.messages(0);
       },
       "messages", "1025 entries; 1 to 1024"},
      {"NoRole", [](auto& r) { r.mutable_messages(0)->clear_role(); }, "messages[0].role",
       "0 is not a role"},
      {"UnknownRole", [](auto& r) { r.mutable_messages(0)->set_role(static_cast<v1::Role>(9)); },
       "messages[0].role", "9 is not a role"},
      {"NoParts", [](auto& r) { r.mutable_messages(0)->clear_parts(); }, "messages[0].parts",
       "0 parts; 1 to 64"},
      {"TooManyParts",
       [](auto& r) {
         for (int i = 0; i < 64; ++i) r.mutable_messages(0)->add_parts()->set_text("x");
       },
       "messages[0].parts", "65 parts; 1 to 64"},
      {"EmptyPart", [](auto& r) { r.mutable_messages(0)->mutable_parts(0)->clear_text(); },
       "messages[0].parts[0]", "needs a text"},
      {"Image",
       [](auto& r) {
         r.mutable_messages(0)->mutable_parts(0)->mutable_image()->set_data("GIF89a");
       },
       "messages[0].parts[0].image", "no served model takes images", kNotYet},
      {"Audio",
       [](auto& r) { r.mutable_messages(0)->mutable_parts(0)->mutable_audio()->set_data("RIFF"); },
       "messages[0].parts[0].audio", "no served model takes audio", kNotYet},
      {"LastIsTheModels",
       [](auto& r) {
         v1::Message& last = *r.add_messages();
         last.set_role(v1::ROLE_ASSISTANT);
         last.add_parts()->set_text("Well,");
       },
       "messages[1].role", "must be the user's"},
      {"LastIsTheOperators", [](auto& r) { r.mutable_messages(0)->set_role(v1::ROLE_SYSTEM); },
       "messages[0].role", "must be the user's"},
  };
}

std::vector<Bad> BadChoices() {
  return {
      {"Mode", [](auto& r) { r.set_mode(static_cast<v1::Mode>(4)); }, "mode", "no value 4"},
      {"ModeBelowZero", [](auto& r) { r.set_mode(static_cast<v1::Mode>(-1)); }, "mode",
       "no value -1"},
      {"WidthWithoutContemplating",
       [](auto& r) {
         r.set_mode(v1::MODE_INSTANT);
         r.mutable_contemplation()->set_max_agents(2);
       },
       "contemplation", "MODE_CONTEMPLATING only"},
      {"NoAgents", [](auto& r) { Width(r).set_max_agents(0); }, "contemplation.max_agents",
       "is 0; it can be 1 to 64"},
      {"TooManyAgents", [](auto& r) { Width(r).set_max_agents(65); }, "contemplation.max_agents",
       "is 65; it can be 1 to 64"},
      {"WaveOfNobody", [](auto& r) { Width(r).set_wave(0); }, "contemplation.wave",
       "is 0; it can be 1 to 64"},
      {"NegativeMinimum", [](auto& r) { Width(r).set_min_agents(-3); }, "contemplation.min_agents",
       "is -3; it can be 1 to 64"},
      {"Strategy", [](auto& r) { Width(r).set_strategy(static_cast<v1::Strategy>(77)); },
       "contemplation.strategy", "no value 77"},
      {"NoRoles", [](auto& r) { Width(r).set_strategy(v1::STRATEGY_ROLES); }, "contemplation.roles",
       "is 0; it can be 1 to 64"},
      {"RolesOfAnotherStrategy", [](auto& r) { Width(r).add_roles("Doubt."); },
       "contemplation.roles", "STRATEGY_ROLES only"},
      {"EmptyRole",
       [](auto& r) {
         Width(r).set_strategy(v1::STRATEGY_ROLES);
         Width(r).add_roles("Doubt.");
         Width(r).add_roles("");
       },
       "contemplation.roles[1]", "is 0; it can be 1 to 4096"},
      {"LongRole",
       [](auto& r) {
         Width(r).set_strategy(v1::STRATEGY_ROLES);
         Width(r).add_roles(std::string(4097, 'x'));
       },
       "contemplation.roles[0]", "is 4097; it can be 1 to 4096"},
      {"TooManyTemperatures",
       [](auto& r) {
         for (int i = 0; i < 65; ++i) Width(r).add_temperatures(1);
       },
       "contemplation.temperatures", "is 65; it can be 0 to 64"},
      {"NegativeTemperature",
       [](auto& r) {
         Width(r).add_temperatures(1);
         Width(r).add_temperatures(-0.5f);
       },
       "contemplation.temperatures[1]", "is -0.5; it can be 0 to 100"},
      {"TemperatureNan", [](auto& r) { Width(r).add_temperatures(static_cast<float>(kNan)); },
       "contemplation.temperatures[0]", "is nan; it can be 0 to 100"},
      {"RoundsOfAnotherStrategy", [](auto& r) { Width(r).set_rounds(2); }, "contemplation.rounds",
       "STRATEGY_REFINE only"},
      {"DraftsOfAnotherStrategy",
       [](auto& r) {
         Width(r).set_strategy(v1::STRATEGY_DECOMPOSE);
         Width(r).set_drafts(2);
       },
       "contemplation.drafts", "STRATEGY_REFINE only"},
      {"NineRounds",
       [](auto& r) {
         Width(r).set_strategy(v1::STRATEGY_REFINE);
         Width(r).set_rounds(9);
       },
       "contemplation.rounds", "is 9; it can be 1 to 8"},
      {"NoDrafts",
       [](auto& r) {
         Width(r).set_strategy(v1::STRATEGY_REFINE);
         Width(r).set_drafts(0);
       },
       "contemplation.drafts", "is 0; it can be 1 to 64"},
      {"ADigestOfNothing", [](auto& r) { Width(r).set_digest_bytes(255); },
       "contemplation.digest_bytes", "is 255; it can be 256 to 1048576"},
      {"ProbesTooOften", [](auto& r) { Width(r).mutable_probes()->set_every(15); },
       "contemplation.probes.every", "is 15; it can be 16 to 65536"},
      {"ProbesWithoutAnswer",
       [](auto& r) {
         Width(r).mutable_probes()->set_every(16);
         Width(r).mutable_probes()->set_answer_tokens(0);
       },
       "contemplation.probes.answer_tokens", "is 0; it can be 1 to 256"},
      {"ProbesThatAgreeAlone",
       [](auto& r) {
         Width(r).mutable_probes()->set_every(16);
         Width(r).mutable_probes()->set_agree(1);
       },
       "contemplation.probes.agree", "is 1; it can be 2 to 64"},
      {"EffortOfAnotherStrategy", [](auto& r) { Width(r).set_effort(v1::EFFORT_LOW); },
       "contemplation.effort", "is for STRATEGY_AUTO only"},
      {"Effort",
       [](auto& r) {
         Width(r).set_strategy(v1::STRATEGY_AUTO);
         Width(r).set_effort(static_cast<v1::Effort>(4));
       },
       "contemplation.effort", "no value 4"},
      {"StopRule", [](auto& r) { Width(r).set_stop_rule(static_cast<v1::StopRule>(99)); },
       "contemplation.stop_rule", "no value 99"},
      {"CertaintyOfAnotherRule", [](auto& r) { Width(r).set_stop_certainty(0.9); },
       "contemplation.stop_certainty", "LEADER_BEATS_RUNNER_UP only"},
      {"CertaintyOfOne",
       [](auto& r) {
         Width(r).set_stop_rule(v1::STOP_RULE_LEADER_BEATS_RUNNER_UP);
         Width(r).set_stop_certainty(1);
       },
       "contemplation.stop_certainty", "is 1; above 0.5 and below 1"},
      {"CertaintyNan",
       [](auto& r) {
         Width(r).set_stop_rule(v1::STOP_RULE_LEADER_BEATS_RUNNER_UP);
         Width(r).set_stop_certainty(kNan);
       },
       "contemplation.stop_certainty", "is nan"},
      {"VotesOfAnotherRule", [](auto& r) { Width(r).set_stop_votes(3); },
       "contemplation.stop_votes", "QUORUM only"},
      {"NoVotes",
       [](auto& r) {
         Width(r).set_stop_rule(v1::STOP_RULE_QUORUM);
         Width(r).set_stop_votes(0);
       },
       "contemplation.stop_votes", "is 0; it can be 1 to 64"},
      {"Aggregation", [](auto& r) { Width(r).set_aggregation(static_cast<v1::Aggregation>(7)); },
       "contemplation.aggregation", "no value 7"},
      {"AcceptedByNobody", [](auto& r) { Width(r).set_stop_rule(v1::STOP_RULE_ACCEPTED); },
       "contemplation.stop_rule", "is ACCEPTED; there is no checker"},
      {"CheckedByNobody", [](auto& r) { Width(r).set_aggregation(v1::AGGREGATION_CHECK); },
       "contemplation.aggregation", "is CHECK; there is no checker"},
      {"VotesUntilOneIsAccepted",
       [](auto& r) {
         Width(r).set_stop_rule(v1::STOP_RULE_ACCEPTED);
         Width(r).set_stop_votes(3);
       },
       "contemplation.stop_votes", "QUORUM only"},
      {"CheckerWithoutARule", [](auto& r) { Width(r).mutable_checker(); }, "contemplation.checker",
       "has no rule"},
      {"CheckerOfABadPattern", [](auto& r) { Width(r).mutable_checker()->set_regex("("); },
       "contemplation.checker.regex", "is not valid"},
      {"CheckerOfAnUnknownKeyword",
       [](auto& r) {
         Width(r).mutable_checker()->set_json_schema(R"({"items": {"format": "date"}})");
       },
       "contemplation.checker.json_schema", "/items/format: it is no keyword"},
      {"CheckerOfNoValue", [](auto& r) { Width(r).mutable_checker()->mutable_arithmetic(); },
       "contemplation.checker.arithmetic.value", "is empty"},
      {"CheckerOfANegativeNumber",
       [](auto& r) {
         Width(r).mutable_checker()->mutable_arithmetic()->set_value("2");
         Width(r).mutable_checker()->mutable_arithmetic()->add_numbers(-2);
       },
       "contemplation.checker.arithmetic.numbers[0]", "is -2; 0 or more"},
      {"WeightOfAPlainVote",
       [](auto& r) {
         Width(r).set_aggregation(v1::AGGREGATION_VOTE);
         Width(r).set_vote_weight(v1::VOTE_WEIGHT_TOP20_MEAN);
       },
       "contemplation.vote_weight", "WEIGHTED_VOTE only"},
      {"VoteWeight",
       [](auto& r) {
         Width(r).set_aggregation(v1::AGGREGATION_WEIGHTED_VOTE);
         Width(r).set_vote_weight(static_cast<v1::VoteWeight>(5));
       },
       "contemplation.vote_weight", "no value 5"},
      {"BarOfZero", [](auto& r) { Width(r).set_confidence_bar(0); }, "contemplation.confidence_bar",
       "is 0; above 0 to 1024"},
      {"BarAbove", [](auto& r) { Width(r).set_confidence_bar(1025); },
       "contemplation.confidence_bar", "is 1025; above 0 to 1024"},
      {"BarNan", [](auto& r) { Width(r).set_confidence_bar(kNan); }, "contemplation.confidence_bar",
       "is nan"},
      {"Window", [](auto& r) { Width(r).set_confidence_window(0); },
       "contemplation.confidence_window", "is 0; it can be 1 to 65536"},
      {"WindowAbove", [](auto& r) { Width(r).set_confidence_window(65537); },
       "contemplation.confidence_window", "is 65537; it can be 1 to 65536"},
      {"OnLoss", [](auto& r) { r.set_on_loss(static_cast<v1::OnLoss>(5)); }, "on_loss",
       "no value 5"},
      {"Include", [](auto& r) { r.add_include(static_cast<v1::Include>(12)); }, "include[0]",
       "no value 12"},
      {"IncludeUnset", [](auto& r) { r.add_include(v1::INCLUDE_UNSPECIFIED); }, "include[0]",
       "no value 0"},
      {"AnswerKeyKind",
       [](auto& r) { r.mutable_answer_key()->set_kind(static_cast<v1::AnswerKey::Kind>(8)); },
       "answer_key.kind", "8 is not a kind"},
      {"AnswerKeyArgument",
       [](auto& r) {
         r.mutable_answer_key()->set_kind(v1::AnswerKey::KIND_REGEX);
         r.mutable_answer_key()->set_argument(std::string(1025, 'x'));
       },
       "answer_key.argument", "1025 bytes; the limit is 1024"},
  };
}

std::vector<Bad> BadNumbers() {
  return {
      {"Thinking", [](auto& r) { r.mutable_budget()->set_thinking_tokens(0); },
       "budget.thinking_tokens", "is 0; it can be 1 to 16777216"},
      {"ThinkingAbove", [](auto& r) { r.mutable_budget()->set_thinking_tokens((1 << 24) + 1); },
       "budget.thinking_tokens", "is 16777217; it can be 1 to 16777216"},
      {"Answer", [](auto& r) { r.mutable_budget()->set_answer_tokens(-5); }, "budget.answer_tokens",
       "is -5; it can be 1 to 16777216"},
      {"Total", [](auto& r) { r.mutable_budget()->set_total_tokens(0); }, "budget.total_tokens",
       "is 0; it can be 1 to 1099511627776"},
      {"Least", [](auto& r) { r.mutable_budget()->set_min_tokens(-1); }, "budget.min_tokens",
       "is -1; it can be 0 to 16777216"},
      {"TopLogprobs", [](auto& r) { r.set_top_logprobs(21); }, "top_logprobs",
       "is 21; it can be 0 to 20"},
      {"TopLogprobsNegative", [](auto& r) { r.set_top_logprobs(-1); }, "top_logprobs",
       "is -1; it can be 0 to 20"},
      {"StopToken", [](auto& r) { r.add_stop_tokens(-7); }, "stop_tokens[0]", "is -7, no token id"},
      {"StopTokens",
       [](auto& r) {
         for (int i = 0; i < 17; ++i) r.add_stop_tokens(i);
       },
       "stop_tokens", "has 17 tokens; the limit is 16"},
      {"DeadlineZero", [](auto& r) { r.mutable_budget()->mutable_deadline(); }, "budget.deadline",
       "is 0 ns; at least 1 ms"},
      {"DeadlineBackwards",
       [](auto& r) { r.mutable_budget()->mutable_deadline()->set_seconds(-2); }, "budget.deadline",
       "is -2 s"},
      {"DeadlineNanos",
       [](auto& r) { r.mutable_budget()->mutable_deadline()->set_nanos(1'000'000'000); },
       "budget.deadline", "1000000000 ns"},
      {"DeadlineBeyondTime",
       [](auto& r) { r.mutable_budget()->mutable_deadline()->set_seconds(315'576'000'001); },
       "budget.deadline", "is 315576000001 s"},
      {"PatienceZero", [](auto& r) { Width(r).mutable_patience(); }, "contemplation.patience",
       "is 0 ns; at least 1 ms"},
      {"PatienceBackwards", [](auto& r) { Width(r).mutable_patience()->set_seconds(-1); },
       "contemplation.patience", "is -1 s"},
      {"Temperature", [](auto& r) { r.mutable_sampling()->set_temperature(-0.5f); },
       "sampling.temperature", "is -0.5; from 0 to at most 100"},
      {"TemperatureAbove", [](auto& r) { r.mutable_sampling()->set_temperature(101); },
       "sampling.temperature", "is 101"},
      {"TemperatureNan", [](auto& r) { r.mutable_sampling()->set_temperature(kNan); },
       "sampling.temperature", "is nan"},
      {"TopP", [](auto& r) { r.mutable_sampling()->set_top_p(0); }, "sampling.top_p",
       "is 0; above 0 to at most 1"},
      {"TopPAbove", [](auto& r) { r.mutable_sampling()->set_top_p(1.5f); }, "sampling.top_p",
       "is 1.5"},
      {"MinP", [](auto& r) { r.mutable_sampling()->set_min_p(1); }, "sampling.min_p",
       "is 1; from 0 to below 1"},
      {"TopK", [](auto& r) { r.mutable_sampling()->set_top_k(1025); }, "sampling.top_k",
       "is 1025; 0 to 1024"},
      {"TopKNegative", [](auto& r) { r.mutable_sampling()->set_top_k(-1); }, "sampling.top_k",
       "is -1; 0 to 1024"},
      {"Repetition", [](auto& r) { r.mutable_sampling()->set_repetition_penalty(0); },
       "sampling.repetition_penalty", "is 0; above 0 to at most 10"},
      {"Presence", [](auto& r) { r.mutable_sampling()->set_presence_penalty(2.5f); },
       "sampling.presence_penalty", "is 2.5; from -2 to at most 2"},
      {"Frequency", [](auto& r) { r.mutable_sampling()->set_frequency_penalty(-3); },
       "sampling.frequency_penalty", "is -3; from -2 to at most 2"},
      {"Bias", [](auto& r) { (*r.mutable_sampling()->mutable_logit_bias())[5] = 101; },
       "sampling.logit_bias[5]", "is 101; from -100 to at most 100"},
      {"BiasOfNoToken", [](auto& r) { (*r.mutable_sampling()->mutable_logit_bias())[-1] = 1; },
       "sampling.logit_bias[-1]", "is no token id"},
      {"Biases",
       [](auto& r) {
         for (int i = 0; i < 1025; ++i) (*r.mutable_sampling()->mutable_logit_bias())[i] = 1;
       },
       "sampling.logit_bias", "1025 entries; the limit is 1024"},
  };
}

std::vector<Bad> BadTexts() {
  return {
      {"IdCharacters", [](auto& r) { r.set_request_id("a b"); }, "request_id", "A-Z a-z 0-9"},
      {"IdNewline", [](auto& r) { r.set_request_id("a\nb"); }, "request_id", "A-Z a-z 0-9"},
      {"IdLength", [](auto& r) { r.set_request_id(std::string(129, 'a')); }, "request_id",
       "129 bytes; it can be 1 to 128"},
      {"Stops",
       [](auto& r) {
         for (int i = 0; i < 17; ++i) r.add_stop("x");
       },
       "stop", "has 17 entries; the limit is 16"},
      {"EmptyStop",
       [](auto& r) {
         r.add_stop("x");
         r.add_stop("");
       },
       "stop[1]", "is 0; it can be 1 to 256"},
      {"LongStop", [](auto& r) { r.add_stop(std::string(257, 'x')); }, "stop[0]",
       "is 257; it can be 1 to 256"},
      {"LongModel", [](auto& r) { r.set_model(std::string(257, 'm')); }, "model",
       "has 257 bytes; the limit is 256"},
      {"LongFingerprint",
       [](auto& r) { r.mutable_replay()->set_fingerprint(std::string(257, 'f')); },
       "replay.fingerprint", "has 257 bytes; the limit is 256"},
      {"ReplayWithoutFingerprint", [](auto& r) { r.mutable_replay()->set_seed(1); },
       "replay.fingerprint", "is empty"},
      {"ReplayDecisionKind", [](auto& r) { ReplayedDecision(r).set_number(1); },
       "replay.decisions[0].kind", "no value 0"},
      {"ReplayDecisionClock",
       [](auto& r) {
         v1::Decision& decision = ReplayedDecision(r);
         decision.set_kind(v1::Decision::KIND_NARROW);
         decision.set_clock(-1);
       },
       "replay.decisions[0].clock", "is -1"},
      {"ReplayDecisionAgents",
       [](auto& r) {
         v1::Decision& decision = ReplayedDecision(r);
         decision.set_kind(v1::Decision::KIND_JOIN);
         for (uint32_t i = 0; i < 66; ++i) decision.add_agents(i);
       },
       "replay.decisions[0].agents", "is 66; it can be 0 to 65"},
      {"ReplayDecisions",
       [](auto& r) {
         for (int i = 0; i < 1025; ++i) ReplayedDecision(r);
       },
       "replay.decisions", "is 1025; it can be 0 to 1024"},
  };
}

// What is wrong with its form, or with what it asks of a model.
absl::Status Refusal(const v1::GenerateRequest& wire) {
  ModelDescription model;
  model.max_positions = 1000;
  model.max_agents = 16;
  model.decision_version = kDecisionVersion;
  model.vocabulary = 500;
  model.profile.thinks = true;
  model.profile.thinking_tokens = 100;
  model.profile.answer_tokens = 20;
  ASSIGN_OR_RETURN(const Request request, ParseRequest(wire, Draws()));
  return MakePlan(request, model, Limits()).status();
}

class BadRequestTest : public ::testing::TestWithParam<Bad> {};

TEST_P(BadRequestTest, IsRefusedNamingFieldValueAndLimit) {
  const Bad& bad = GetParam();
  v1::GenerateRequest wire = Question("SECRET");
  bad.change(wire);

  const absl::Status status = Refusal(wire);

  EXPECT_EQ(status.code(), bad.code) << status;
  const std::string message(MessageOf(status));
  EXPECT_EQ(message.substr(0, bad.field.size() + 1), bad.field + " ") << message;
  EXPECT_THAT(message, HasSubstr(bad.says));
  EXPECT_EQ(message.find("SECRET"), std::string::npos);
  ASSERT_EQ(DetailsOf(status).fields.size(), 1u);
  EXPECT_EQ(DetailsOf(status).fields[0].first, bad.field);
}

std::string NameOf(const ::testing::TestParamInfo<Bad>& param) { return param.param.name; }
INSTANTIATE_TEST_SUITE_P(Messages, BadRequestTest, ::testing::ValuesIn(BadMessages()), NameOf);
INSTANTIATE_TEST_SUITE_P(Choices, BadRequestTest, ::testing::ValuesIn(BadChoices()), NameOf);
INSTANTIATE_TEST_SUITE_P(Numbers, BadRequestTest, ::testing::ValuesIn(BadNumbers()), NameOf);
INSTANTIATE_TEST_SUITE_P(Texts, BadRequestTest, ::testing::ValuesIn(BadTexts()), NameOf);

}  // namespace
}  // namespace conclave::router
