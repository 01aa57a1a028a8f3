#include "cli/contemplation_options.h"

#include <cmath>
#include <string>
#include <utility>

#include "cli/option_words.h"
#include "cli/record.h"
#include "cli/terminal_text.h"
#include "common/status.h"

namespace conclave::cli {
namespace {

// Seconds. The API's least, and what surely fits into its duration.
constexpr double kMinSeconds = 0.001, kMaxSeconds = 1e9;
constexpr size_t kMostSchemaBytes = 65536;  // The API's.

absl::Status SetVote(const AskOptions& options, v1::Contemplation& how) {
  if (!options.aggregation.empty()) {
    ASSIGN_OR_RETURN(const v1::Aggregation aggregation,
                     Choose<v1::Aggregation>("--aggregation", options.aggregation,
                                             {{"auto", v1::AGGREGATION_AUTO},
                                              {"vote", v1::AGGREGATION_VOTE},
                                              {"weighted-vote", v1::AGGREGATION_WEIGHTED_VOTE},
                                              {"synthesise", v1::AGGREGATION_SYNTHESISE},
                                              {"select", v1::AGGREGATION_SELECT},
                                              {"check", v1::AGGREGATION_CHECK}}));
    how.set_aggregation(aggregation);
  }
  if (!IsUtf8(options.aggregator_model)) return InvalidArgument("--aggregator-model is not UTF-8");
  how.set_aggregator_model(options.aggregator_model);
  if (!options.stop_rule.empty()) {
    ASSIGN_OR_RETURN(const v1::StopRule rule,
                     Choose<v1::StopRule>("--stop-rule", options.stop_rule,
                                          {{"none", v1::STOP_RULE_NONE},
                                           {"settled", v1::STOP_RULE_SETTLED},
                                           {"beta", v1::STOP_RULE_LEADER_BEATS_RUNNER_UP},
                                           {"window", v1::STOP_RULE_WINDOW_UNANIMOUS},
                                           {"first", v1::STOP_RULE_FIRST_M},
                                           {"quorum", v1::STOP_RULE_QUORUM},
                                           {"accepted", v1::STOP_RULE_ACCEPTED}}));
    how.set_stop_rule(rule);
  }
  if (options.stop_votes) how.set_stop_votes(*options.stop_votes);
  if (options.stop_certainty) how.set_stop_certainty(*options.stop_certainty);
  RETURN_IF_ERROR(CheckSeconds("--patience", options.patience_seconds));
  if (options.patience_seconds) *how.mutable_patience() = Seconds(*options.patience_seconds);
  return absl::OkStatus();
}

absl::Status SetConfidence(const AskOptions& options, v1::Contemplation& how) {
  if (!options.vote_weight.empty()) {
    ASSIGN_OR_RETURN(
        const v1::VoteWeight weight,
        Choose<v1::VoteWeight>("--vote-weight", options.vote_weight,
                               {{"mean-probability", v1::VOTE_WEIGHT_MEAN_PROBABILITY},
                                {"top20-mean", v1::VOTE_WEIGHT_TOP20_MEAN},
                                {"top20-lowest-window", v1::VOTE_WEIGHT_TOP20_LOWEST_WINDOW},
                                {"trace-probability", v1::VOTE_WEIGHT_TRACE_PROBABILITY}}));
    how.set_vote_weight(weight);
  }
  if (options.confidence_bar) how.set_confidence_bar(*options.confidence_bar);
  if (options.confidence_window) how.set_confidence_window(*options.confidence_window);
  return absl::OkStatus();
}

absl::Status SetStrategy(const AskOptions& options, v1::Contemplation& how) {
  if (!options.strategy.empty()) {
    ASSIGN_OR_RETURN(const v1::Strategy strategy,
                     Choose<v1::Strategy>("--strategy", options.strategy,
                                          {{"sample", v1::STRATEGY_SAMPLE},
                                           {"roles", v1::STRATEGY_ROLES},
                                           {"decompose", v1::STRATEGY_DECOMPOSE},
                                           {"refine", v1::STRATEGY_REFINE},
                                           {"auto", v1::STRATEGY_AUTO}}));
    how.set_strategy(strategy);
  }
  if (!options.effort.empty()) {
    ASSIGN_OR_RETURN(const v1::Effort effort, Choose<v1::Effort>("--effort", options.effort,
                                                                 {{"low", v1::EFFORT_LOW},
                                                                  {"medium", v1::EFFORT_MEDIUM},
                                                                  {"high", v1::EFFORT_HIGH}}));
    how.set_effort(effort);
  }
  for (const std::string& role : options.roles) {
    if (!IsUtf8(role)) return InvalidArgument("--role is not UTF-8; convert it, as with iconv");
    how.add_roles(role);
  }
  for (const std::string& model : options.agent_models) {
    if (!IsUtf8(model)) return InvalidArgument("--agent-models is not UTF-8");
    how.add_agent_models(model);
  }
  for (const double each : options.temperatures) how.add_temperatures(static_cast<float>(each));
  if (options.wave) how.set_wave(*options.wave);
  if (options.rounds) how.set_rounds(*options.rounds);
  if (options.drafts) how.set_drafts(*options.drafts);
  if (options.digest_bytes) how.set_digest_bytes(*options.digest_bytes);
  return absl::OkStatus();
}

absl::Status SetChecker(const AskOptions& options, v1::Contemplation& how) {
  const int rules = static_cast<int>(!options.check_value.empty()) +
                    static_cast<int>(!options.check_regex.empty()) +
                    static_cast<int>(!options.check_schema_file.empty());
  if (rules > 1) {
    return InvalidArgument(
        "--check-value, --check-regex and --check-schema are three checkers; a request takes one");
  }
  if (!options.check_numbers.empty() && options.check_value.empty()) {
    return InvalidArgument("--check-numbers needs --check-value, what they must come to");
  }
  if (rules == 0) return absl::OkStatus();
  v1::Checker& checker = *how.mutable_checker();
  if (!options.check_schema_file.empty()) {
    absl::StatusOr<std::string> schema = ReadFile(options.check_schema_file, kMostSchemaBytes);
    if (!schema.ok()) return Annotate(schema.status(), "--check-schema");
    if (!IsUtf8(*schema)) return InvalidArgument("--check-schema is not UTF-8");
    checker.set_json_schema(*std::move(schema));
  } else if (!options.check_regex.empty()) {
    if (!IsUtf8(options.check_regex)) return InvalidArgument("--check-regex is not UTF-8");
    checker.set_regex(options.check_regex);
  } else {
    if (!IsUtf8(options.check_value)) return InvalidArgument("--check-value is not UTF-8");
    checker.mutable_arithmetic()->set_value(options.check_value);
    for (const int64_t number : options.check_numbers) {
      checker.mutable_arithmetic()->add_numbers(number);
    }
  }
  return absl::OkStatus();
}

absl::Status SetProbes(const AskOptions& options, v1::Contemplation& how) {
  if (!options.probe_every) {
    if (!options.probe_agree && !options.probe_tokens) return absl::OkStatus();
    return InvalidArgument("{} needs --probe-every, how often agents are asked",
                           options.probe_agree ? "--probe-agree" : "--probe-tokens");
  }
  v1::Probes& probes = *how.mutable_probes();
  probes.set_every(*options.probe_every);
  if (options.probe_agree) probes.set_agree(*options.probe_agree);
  if (options.probe_tokens) probes.set_answer_tokens(*options.probe_tokens);
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSeconds(const char* option, const std::optional<double>& seconds) {
  if (!seconds || (*seconds >= kMinSeconds && *seconds <= kMaxSeconds)) return absl::OkStatus();
  return InvalidArgument("{} is {}; it can be {} to {} seconds", option, *seconds, kMinSeconds,
                         kMaxSeconds);
}

google::protobuf::Duration Seconds(double seconds) {
  google::protobuf::Duration duration;
  duration.set_seconds(static_cast<int64_t>(seconds));
  duration.set_nanos(static_cast<int32_t>(std::fmod(seconds, 1.0) * 1e9));
  return duration;
}

absl::Status SetContemplation(const AskOptions& options, v1::Contemplation& how) {
  if (options.agents) how.set_max_agents(*options.agents);
  if (options.min_agents) how.set_min_agents(*options.min_agents);
  RETURN_IF_ERROR(SetStrategy(options, how));
  RETURN_IF_ERROR(SetVote(options, how));
  RETURN_IF_ERROR(SetConfidence(options, how));
  RETURN_IF_ERROR(SetChecker(options, how));
  return SetProbes(options, how);
}

absl::Status RefuseContemplation(const AskOptions& options) {
  const std::pair<bool, const char*> given[] = {
      {options.agents.has_value(), "--agents"},
      {options.min_agents.has_value(), "--min-agents"},
      {!options.strategy.empty(), "--strategy"},
      {!options.effort.empty(), "--effort"},
      {options.wave.has_value(), "--wave"},
      {!options.roles.empty(), "--role"},
      {!options.temperatures.empty(), "--temperatures"},
      {!options.agent_models.empty(), "--agent-models"},
      {options.rounds.has_value(), "--rounds"},
      {options.drafts.has_value(), "--drafts"},
      {options.digest_bytes.has_value(), "--digest-bytes"},
      {!options.aggregation.empty(), "--aggregation"},
      {!options.aggregator_model.empty(), "--aggregator-model"},
      {!options.stop_rule.empty(), "--stop-rule"},
      {options.stop_votes.has_value(), "--stop-votes"},
      {options.stop_certainty.has_value(), "--stop-certainty"},
      {!options.vote_weight.empty(), "--vote-weight"},
      {options.confidence_bar.has_value(), "--confidence-bar"},
      {options.confidence_window.has_value(), "--confidence-window"},
      {!options.check_value.empty(), "--check-value"},
      {!options.check_numbers.empty(), "--check-numbers"},
      {!options.check_regex.empty(), "--check-regex"},
      {!options.check_schema_file.empty(), "--check-schema"},
      {options.probe_every.has_value(), "--probe-every"},
      {options.probe_agree.has_value(), "--probe-agree"},
      {options.probe_tokens.has_value(), "--probe-tokens"},
      {options.patience_seconds.has_value(), "--patience"},
  };
  for (const auto& [is_given, option] : given) {
    if (!is_given) continue;
    return InvalidArgument("{} is for --mode contemplating; --mode {} has one agent", option,
                           options.mode);
  }
  return absl::OkStatus();
}

}  // namespace conclave::cli
