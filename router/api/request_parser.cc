#include "router/api/request_parser.h"

#include <algorithm>
#include <set>
#include <utility>

#include "common/confidence.h"
#include "common/family.h"
#include "common/status.h"
#include "common/wire/message_wire.h"
#include "common/wire/token_wire.h"

namespace conclave::router {
namespace {

constexpr int kMostStops = 16;
constexpr size_t kMostStopBytes = 256;
constexpr size_t kMostIdBytes = 128;
constexpr size_t kMostNameBytes = 256;
constexpr int64_t kMostAnswerBytes = int64_t{1} << 40;
constexpr size_t kSha256Bytes = 32;
constexpr int kMostAgents = 64;
constexpr int kMostRoleBytes = 4096;
constexpr int kMostModels = 8;  // Different ones in one request.
constexpr float kMostTemperature = 100;
constexpr int kMostRounds = 8;
constexpr int kLeastDigestBytes = 256, kMostDigestBytes = 1 << 20;
constexpr int kMostTokens = 1 << 24;
constexpr int kMostDecisions = 1024;
constexpr int kMostProbesAgree = 64;

absl::Status CheckRange(std::string_view field, int64_t value, int64_t least, int64_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return BadField(field, fmt::format("is {}; it can be {} to {}", value, least, most));
}

// Proto enums are open: any number may come.
template <typename Enum>
absl::Status CheckEnum(std::string_view field, Enum value, bool valid) {
  if (valid) return absl::OkStatus();
  return BadField(field, fmt::format("has no value {}", static_cast<int>(value)));
}

absl::Status ParseMode(const v1::GenerateRequest& wire, Request& request) {
  RETURN_IF_ERROR(CheckEnum("mode", wire.mode(), v1::Mode_IsValid(wire.mode())));
  if (wire.mode() == v1::MODE_INSTANT) request.mode = Mode::kInstant;
  if (wire.mode() == v1::MODE_THINKING) request.mode = Mode::kThinking;
  if (wire.mode() == v1::MODE_CONTEMPLATING) request.mode = Mode::kContemplating;
  if (wire.has_contemplation() && wire.mode() != v1::MODE_CONTEMPLATING) {
    return BadField("contemplation", "belongs to MODE_CONTEMPLATING only");
  }
  return absl::OkStatus();
}

absl::Status ParseStop(const v1::Contemplation& how, Request& request) {
  const v1::StopRule rule = how.stop_rule();
  // The enums stand in the same order; the wire's has UNSPECIFIED before them.
  static_assert(static_cast<int>(StopRule::kAccepted) + 1 == v1::STOP_RULE_ACCEPTED);
  if (rule != v1::STOP_RULE_UNSPECIFIED) {
    request.stop_rule = static_cast<StopRule>(static_cast<int>(rule) - 1);
  } else if (request.checker) {
    request.stop_rule = StopRule::kAccepted;
  } else if (request.strategy == Strategy::kAuto) {
    request.stop_rule = StopRule::kBeta;
  }
  if (how.has_stop_certainty()) {
    if (request.stop_rule != StopRule::kBeta)
      return BadField("contemplation.stop_certainty", "is for LEADER_BEATS_RUNNER_UP only");
    if (!(how.stop_certainty() > 0.5 && how.stop_certainty() < 1)) {
      return BadField("contemplation.stop_certainty",
                      fmt::format("is {}; above 0.5 and below 1 is allowed", how.stop_certainty()));
    }
    request.stop_certainty = how.stop_certainty();
  }
  if (how.has_stop_votes()) {
    if (request.stop_rule < StopRule::kWindow || request.stop_rule > StopRule::kQuorum)
      return BadField("contemplation.stop_votes",
                      "is for WINDOW_UNANIMOUS, FIRST_M and QUORUM only");
    RETURN_IF_ERROR(CheckRange("contemplation.stop_votes", how.stop_votes(), 1, kMostAgents));
    request.stop_votes = how.stop_votes();
  }
  return absl::OkStatus();
}

absl::Status ParseConfidence(const v1::Contemplation& how, Request& request) {
  const v1::VoteWeight weight = how.vote_weight();
  RETURN_IF_ERROR(CheckEnum("contemplation.vote_weight", weight, v1::VoteWeight_IsValid(weight)));
  // The enums stand in the same order; the wire's has UNSPECIFIED where ours has kOne.
  static_assert(static_cast<int>(VoteWeight::kTraceProbability) ==
                v1::VOTE_WEIGHT_TRACE_PROBABILITY);
  if (weight != v1::VOTE_WEIGHT_UNSPECIFIED) {
    if (request.aggregation != Aggregation::kWeightedVote)
      return BadField("contemplation.vote_weight", "is for WEIGHTED_VOTE only");
    request.vote_weight = static_cast<VoteWeight>(static_cast<int>(weight));
  }
  if (how.has_confidence_window()) {
    RETURN_IF_ERROR(CheckRange("contemplation.confidence_window", how.confidence_window(), 1,
                               kMostConfidenceWindow));
    request.confidence_window = how.confidence_window();
  }
  if (how.has_confidence_bar()) {
    if (!(how.confidence_bar() > 0 && how.confidence_bar() <= kMostConfidenceBar)) {
      return BadField(
          "contemplation.confidence_bar",
          fmt::format("is {}; above 0 to {} is allowed", how.confidence_bar(), kMostConfidenceBar));
    }
    request.confidence_bar = how.confidence_bar();
  }
  return absl::OkStatus();
}

absl::StatusOr<absl::Duration> ParseDuration(std::string_view field,
                                             const google::protobuf::Duration& wire) {
  const bool sound = wire.seconds() >= 0 && wire.seconds() <= 315'576'000'000 &&
                     wire.nanos() >= 0 && wire.nanos() < 1'000'000'000;
  if (!sound)
    return BadField(field, fmt::format("is {} s and {} ns; it can be 0 to 315576000000 s with 0 to "
                                       "999999999 ns",
                                       wire.seconds(), wire.nanos()));
  return absl::Seconds(wire.seconds()) + absl::Nanoseconds(wire.nanos());
}

// A time that somebody waits: 0 would be none.
absl::StatusOr<absl::Duration> ParseWait(std::string_view field,
                                         const google::protobuf::Duration& wire) {
  ASSIGN_OR_RETURN(const absl::Duration wait, ParseDuration(field, wire));
  if (wait >= absl::Milliseconds(1)) return wait;
  return BadField(
      field, fmt::format("is {} ns; at least 1 ms is allowed", absl::ToInt64Nanoseconds(wait)));
}

absl::Status ParseStrategy(const v1::Contemplation& how, Request& request) {
  const v1::Strategy strategy = how.strategy();
  // The enums stand in the same order; the wire's has UNSPECIFIED before them.
  static_assert(static_cast<int>(Strategy::kAuto) + 1 == v1::STRATEGY_AUTO);
  if (strategy != v1::STRATEGY_UNSPECIFIED)
    request.strategy = static_cast<Strategy>(static_cast<int>(strategy) - 1);
  if (how.has_rounds()) {
    if (strategy != v1::STRATEGY_REFINE)
      return BadField("contemplation.rounds", "is for STRATEGY_REFINE only");
    RETURN_IF_ERROR(CheckRange("contemplation.rounds", how.rounds(), 1, kMostRounds));
    request.rounds = how.rounds();
  }
  if (how.has_drafts()) {
    if (strategy != v1::STRATEGY_REFINE)
      return BadField("contemplation.drafts", "is for STRATEGY_REFINE only");
    RETURN_IF_ERROR(CheckRange("contemplation.drafts", how.drafts(), 1, kMostAgents));
    request.drafts = how.drafts();
  }
  if (how.has_digest_bytes()) {
    RETURN_IF_ERROR(CheckRange("contemplation.digest_bytes", how.digest_bytes(), kLeastDigestBytes,
                               kMostDigestBytes));
    request.digest_bytes = how.digest_bytes();
  }
  return absl::OkStatus();
}

absl::Status ParseEffort(const v1::Contemplation& how, Request& request) {
  RETURN_IF_ERROR(
      CheckEnum("contemplation.effort", how.effort(), v1::Effort_IsValid(how.effort())));
  if (how.effort() == v1::EFFORT_UNSPECIFIED) return absl::OkStatus();
  if (request.strategy != Strategy::kAuto)
    return BadField("contemplation.effort", "is for STRATEGY_AUTO only");
  // The enums stand in the same order; the wire's has UNSPECIFIED before them.
  static_assert(static_cast<int>(Effort::kHigh) + 1 == v1::EFFORT_HIGH);
  request.effort = static_cast<Effort>(static_cast<int>(how.effort()) - 1);
  return absl::OkStatus();
}

absl::Status ParseProbes(const v1::Probes& probes, Request& request) {
  ProbeChoice choice;
  RETURN_IF_ERROR(
      CheckRange("contemplation.probes.every", probes.every(), kLeastProbeEvery, kMostProbeEvery));
  choice.every = probes.every();
  if (probes.has_answer_tokens()) {
    RETURN_IF_ERROR(CheckRange("contemplation.probes.answer_tokens", probes.answer_tokens(), 1,
                               kMostProbeTokens));
    choice.answer_tokens = probes.answer_tokens();
  }
  if (probes.has_agree()) {
    RETURN_IF_ERROR(CheckRange("contemplation.probes.agree", probes.agree(), 2, kMostProbesAgree));
    choice.agree = probes.agree();
  }
  request.probes = choice;
  return absl::OkStatus();
}

absl::Status ParseRoles(const v1::Contemplation& how, Request& request) {
  if (how.strategy() != v1::STRATEGY_ROLES) {
    if (how.roles().empty()) return absl::OkStatus();
    return BadField("contemplation.roles", "is for STRATEGY_ROLES only");
  }
  RETURN_IF_ERROR(CheckRange("contemplation.roles", how.roles_size(), 1, kMostAgents));
  for (int i = 0; i < how.roles_size(); ++i) {
    const int64_t bytes = static_cast<int64_t>(how.roles(i).size());
    RETURN_IF_ERROR(
        CheckRange(fmt::format("contemplation.roles[{}]", i), bytes, 1, kMostRoleBytes));
    request.roles.push_back(how.roles(i));
  }
  return absl::OkStatus();
}

absl::Status ParseTemperatures(const v1::Contemplation& how, Request& request) {
  RETURN_IF_ERROR(
      CheckRange("contemplation.temperatures", how.temperatures_size(), 0, kMostAgents));
  for (int i = 0; i < how.temperatures_size(); ++i) {
    const float temperature = how.temperatures(i);
    if (!(temperature >= 0 && temperature <= kMostTemperature)) {
      return BadField(fmt::format("contemplation.temperatures[{}]", i),
                      fmt::format("is {}; it can be 0 to {}", temperature, kMostTemperature));
    }
    request.temperatures.push_back(temperature);
  }
  return absl::OkStatus();
}

absl::Status CheckName(std::string_view field, const std::string& name) {
  if (name.size() <= kMostNameBytes) return absl::OkStatus();
  return BadField(field, fmt::format("has {} bytes; the limit is {}", name.size(), kMostNameBytes));
}

absl::Status ParseAggregator(const v1::Contemplation& how, Request& request) {
  RETURN_IF_ERROR(CheckName("contemplation.aggregator_model", how.aggregator_model()));
  request.aggregator_model = how.aggregator_model();
  const bool votes = request.aggregation == Aggregation::kVote ||
                     request.aggregation == Aggregation::kWeightedVote;
  if (request.aggregator_model.empty() || !votes || request.strategy == Strategy::kDecompose)
    return absl::OkStatus();
  return BadField("contemplation.aggregator_model", "is for an aggregation by a model, not a vote");
}

// REQUIRES: the request's model was read.
absl::Status ParseAgentModels(const v1::Contemplation& how, Request& request) {
  const std::string field = "contemplation.agent_models";
  RETURN_IF_ERROR(CheckRange(field, how.agent_models_size(), 0, kMostAgents));
  std::set<std::string> different;
  for (int i = 0; i < how.agent_models_size(); ++i) {
    const std::string& name = how.agent_models(i);
    const std::string each = fmt::format("{}[{}]", field, i);
    if (name.empty()) return BadField(each, "is empty");
    RETURN_IF_ERROR(CheckName(each, name));
    different.insert(name);
    request.agent_models.push_back(name);
  }
  if (different.size() > kMostModels) {
    return BadField(field, fmt::format("name {} different models; the limit is {}",
                                       different.size(), kMostModels));
  }
  if (request.agent_models.empty()) return absl::OkStatus();
  if (request.model.empty()) request.model = request.agent_models.front();
  if (request.model == request.agent_models.front()) return absl::OkStatus();
  return BadField(field + "[0]", fmt::format("is {}; the request's model is {}",
                                             request.agent_models.front(), request.model));
}

absl::Status ParseContemplation(const v1::Contemplation& how, Request& request) {
  if (how.has_min_agents()) {
    RETURN_IF_ERROR(CheckRange("contemplation.min_agents", how.min_agents(), 1, kMostAgents));
    request.min_agents = how.min_agents();
  }
  if (how.has_max_agents()) {
    RETURN_IF_ERROR(CheckRange("contemplation.max_agents", how.max_agents(), 1, kMostAgents));
    request.max_agents = how.max_agents();
  }
  RETURN_IF_ERROR(
      CheckEnum("contemplation.strategy", how.strategy(), v1::Strategy_IsValid(how.strategy())));
  RETURN_IF_ERROR(
      CheckEnum("contemplation.stop_rule", how.stop_rule(), v1::StopRule_IsValid(how.stop_rule())));
  RETURN_IF_ERROR(CheckEnum("contemplation.aggregation", how.aggregation(),
                            v1::Aggregation_IsValid(how.aggregation())));
  if (how.has_checker()) {
    ASSIGN_OR_RETURN(request.checker, FromWire(how.checker(), "contemplation.checker"));
  }
  RETURN_IF_ERROR(ParseRoles(how, request));
  RETURN_IF_ERROR(ParseTemperatures(how, request));
  RETURN_IF_ERROR(ParseStrategy(how, request));
  RETURN_IF_ERROR(ParseEffort(how, request));
  RETURN_IF_ERROR(ParseStop(how, request));
  // The enums stand in the same order; the wire's has UNSPECIFIED before them.
  static_assert(static_cast<int>(Aggregation::kCheck) + 1 == v1::AGGREGATION_CHECK);
  if (how.aggregation() != v1::AGGREGATION_UNSPECIFIED)
    request.aggregation = static_cast<Aggregation>(static_cast<int>(how.aggregation()) - 1);
  RETURN_IF_ERROR(ParseAggregator(how, request));
  RETURN_IF_ERROR(ParseAgentModels(how, request));
  if (how.has_wave()) {
    RETURN_IF_ERROR(CheckRange("contemplation.wave", how.wave(), 1, kMostAgents));
    request.wave = how.wave();
  }
  if (how.has_patience()) {
    ASSIGN_OR_RETURN(request.patience, ParseWait("contemplation.patience", how.patience()));
  }
  if (how.has_probes()) RETURN_IF_ERROR(ParseProbes(how.probes(), request));
  return ParseConfidence(how, request);
}

absl::Status ParseBudget(const v1::Budget& budget, Request& request) {
  if (budget.has_thinking_tokens()) {
    RETURN_IF_ERROR(CheckRange("budget.thinking_tokens", budget.thinking_tokens(), 1, kMostTokens));
    request.thinking_tokens = budget.thinking_tokens();
  }
  if (budget.has_answer_tokens()) {
    RETURN_IF_ERROR(CheckRange("budget.answer_tokens", budget.answer_tokens(), 1, kMostTokens));
    request.answer_tokens = budget.answer_tokens();
  }
  if (budget.has_min_tokens()) {
    RETURN_IF_ERROR(CheckRange("budget.min_tokens", budget.min_tokens(), 0, kMostTokens));
    request.min_tokens = budget.min_tokens();
  }
  if (budget.has_total_tokens()) {
    RETURN_IF_ERROR(CheckRange("budget.total_tokens", budget.total_tokens(), 1, int64_t{1} << 40));
    request.total_tokens = budget.total_tokens();
  }
  if (budget.has_deadline()) {
    ASSIGN_OR_RETURN(request.deadline, ParseWait("budget.deadline", budget.deadline()));
  }
  return absl::OkStatus();
}

absl::Status ParseSampling(const v1::Sampling& wire, SamplingChoice& choice) {
  ASSIGN_OR_RETURN(const Sampling checked, FromWire(wire, Sampling{}, "sampling"));
  if (wire.has_temperature()) choice.temperature = wire.temperature();
  if (wire.has_top_k()) choice.top_k = wire.top_k();
  if (wire.has_top_p()) choice.top_p = wire.top_p();
  if (wire.has_min_p()) choice.min_p = wire.min_p();
  if (wire.has_repetition_penalty()) choice.repetition_penalty = wire.repetition_penalty();
  if (wire.has_presence_penalty()) choice.presence_penalty = wire.presence_penalty();
  if (wire.has_frequency_penalty()) choice.frequency_penalty = wire.frequency_penalty();
  choice.logit_bias = checked.logit_bias;
  return absl::OkStatus();
}

absl::Status ParseTexts(const v1::GenerateRequest& wire, const RequestDraws& draws,
                        Request& request) {
  request.id = wire.request_id().empty() ? draws.id : wire.request_id();
  RETURN_IF_ERROR(CheckRequestId(request.id));
  if (wire.stop_size() > kMostStops) {
    return BadField("stop",
                    fmt::format("has {} entries; the limit is {}", wire.stop_size(), kMostStops));
  }
  for (int i = 0; i < wire.stop_size(); ++i) {
    const int64_t bytes = static_cast<int64_t>(wire.stop(i).size());
    RETURN_IF_ERROR(CheckRange(fmt::format("stop[{}]", i), bytes, 1, kMostStopBytes));
    request.stop.push_back(wire.stop(i));
  }
  ASSIGN_OR_RETURN(request.stop_tokens, ReadStopTokens(wire.stop_tokens(), "stop_tokens"));
  if (wire.has_top_logprobs()) {
    ASSIGN_OR_RETURN(request.top_logprobs, ReadTopLogprobs(wire.top_logprobs(), "top_logprobs"));
  }
  return absl::OkStatus();
}

absl::Status ParseInclude(const v1::GenerateRequest& wire, Include& include) {
  for (int i = 0; i < wire.include_size(); ++i) {
    switch (wire.include(i)) {
      case v1::INCLUDE_THINKING:
        include.thinking = true;
        break;
      case v1::INCLUDE_AGENT_ANSWERS:
        include.agent_answers = true;
        break;
      case v1::INCLUDE_TOKENS:
        include.tokens = true;
        break;
      case v1::INCLUDE_VOTES:
        include.votes = true;
        break;
      default:
        return BadField(fmt::format("include[{}]", i),
                        fmt::format("has no value {}", static_cast<int>(wire.include(i))));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Decision> ParseDecision(const v1::Decision& wire, const std::string& path) {
  if (wire.kind() < v1::Decision::KIND_JOIN || wire.kind() > v1::Decision::KIND_STOP_NOW) {
    return BadField(path + ".kind", fmt::format("has no value {}", static_cast<int>(wire.kind())));
  }
  RETURN_IF_ERROR(CheckRange(path + ".clock", wire.clock(), 0, int64_t{1} << 40));
  RETURN_IF_ERROR(CheckRange(path + ".agents", wire.agents_size(), 0, kMostAgents + 1));
  RETURN_IF_ERROR(CheckRange(path + ".cuts", wire.cuts_size(), 0, kMostAgents + 1));
  Decision decision;
  decision.number = wire.number();
  decision.kind = static_cast<Decision::Kind>(wire.kind() - v1::Decision::KIND_JOIN);
  decision.clock = wire.clock();
  for (const uint32_t agent : wire.agents()) decision.agents.push_back(AgentId{agent});
  for (const v1::Cut& cut : wire.cuts()) {
    decision.cuts.push_back({.agent = AgentId{cut.agent()}, .kept = cut.kept()});
  }
  return decision;
}

absl::Status ParseReplay(const v1::Replay& wire, Request& request) {
  ReplaySpec replay;
  replay.seed = wire.seed();
  replay.time_of_day = wire.time_of_day();
  replay.fingerprint = wire.fingerprint();
  replay.decision_version = wire.decision_version();
  replay.result_hash = wire.result_hash();
  replay.aggregator_fingerprint = wire.aggregator_fingerprint();
  if (replay.fingerprint.empty()) return BadField("replay.fingerprint", "is empty");
  RETURN_IF_ERROR(CheckName("replay.fingerprint", replay.fingerprint));
  RETURN_IF_ERROR(CheckName("replay.aggregator_fingerprint", replay.aggregator_fingerprint));
  RETURN_IF_ERROR(
      CheckRange("replay.agent_fingerprints", wire.agent_fingerprints_size(), 0, kMostAgents));
  for (const std::string& fingerprint : wire.agent_fingerprints()) {
    RETURN_IF_ERROR(CheckName("replay.agent_fingerprints", fingerprint));
    replay.agent_fingerprints.push_back(fingerprint);
  }
  RETURN_IF_ERROR(CheckRange("replay.decisions", wire.decisions_size(), 0, kMostDecisions));
  for (int i = 0; i < wire.decisions_size(); ++i) {
    ASSIGN_OR_RETURN(Decision decision,
                     ParseDecision(wire.decisions(i), fmt::format("replay.decisions[{}]", i)));
    replay.decisions.push_back(std::move(decision));
  }
  request.replay = std::move(replay);
  return absl::OkStatus();
}

absl::StatusOr<HeldAnswer> ParseHeld(const v1::Resume& wire) {
  RETURN_IF_ERROR(CheckRange("resume.answer_bytes", wire.answer_bytes(), 0, kMostAnswerBytes));
  const size_t bytes = wire.answer_sha256().size();
  if (bytes != kSha256Bytes && (bytes > 0 || wire.answer_bytes() > 0)) {
    return BadField("resume.answer_sha256",
                    fmt::format("has {} bytes; a SHA-256 has {}", bytes, kSha256Bytes));
  }
  return HeldAnswer{.bytes = wire.answer_bytes(), .sha256 = wire.answer_sha256()};
}

}  // namespace

bool IsRequestId(const std::string& id) {
  return !id.empty() && id.size() <= kMostIdBytes &&
         std::all_of(id.begin(), id.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 ||
                  std::string_view("_.:-").find(static_cast<char>(c)) != std::string_view::npos;
         });
}

absl::Status CheckRequestId(const std::string& id) {
  if (IsRequestId(id)) return absl::OkStatus();
  return BadField("request_id",
                  fmt::format("has {} bytes; it can be 1 to {} of A-Z a-z 0-9 . _ : -", id.size(),
                              kMostIdBytes));
}

absl::StatusOr<StreamTerms> ParseStreamTerms(const v1::GenerateRequest& wire,
                                             absl::Duration longest) {
  StreamTerms terms;
  if (wire.has_keep_for()) {
    ASSIGN_OR_RETURN(const absl::Duration keep_for, ParseDuration("keep_for", wire.keep_for()));
    terms.keep_for = std::min(keep_for, longest);
  }
  if (wire.has_resume()) {
    RETURN_IF_ERROR(CheckRequestId(wire.request_id()));
    ASSIGN_OR_RETURN(terms.resume, ParseHeld(wire.resume()));
  }
  return terms;
}

absl::Status CheckModelName(const std::string& name) { return CheckName("model", name); }

absl::StatusOr<Request> ParseRequest(const v1::GenerateRequest& wire, const RequestDraws& draws) {
  Request request;
  RETURN_IF_ERROR(CheckModelName(wire.model()));
  RETURN_IF_ERROR(ParseTexts(wire, draws, request));
  request.model = wire.model();
  ASSIGN_OR_RETURN(request.messages, FromWire(wire.messages(), "messages"));
  if (request.messages.back().role != Role::kUser) {
    return BadField(fmt::format("messages[{}].role", request.messages.size() - 1),
                    "the last message must be the user's");
  }
  RETURN_IF_ERROR(ParseMode(wire, request));
  RETURN_IF_ERROR(ParseContemplation(wire.contemplation(), request));
  RETURN_IF_ERROR(ParseBudget(wire.budget(), request));
  RETURN_IF_ERROR(ParseSampling(wire.sampling(), request.sampling));
  request.seed_given = wire.has_seed();
  request.seed = wire.has_seed() ? wire.seed() : draws.seed;
  request.time_of_day = draws.time_of_day;
  if (wire.has_answer_key() && wire.answer_key().kind() != v1::AnswerKey::KIND_UNSPECIFIED) {
    ASSIGN_OR_RETURN(request.answer_key,
                     FromWire(wire.answer_key(), AnswerKeySpec{}, "answer_key"));
  }
  RETURN_IF_ERROR(ParseInclude(wire, request.include));
  RETURN_IF_ERROR(CheckEnum("on_loss", wire.on_loss(), v1::OnLoss_IsValid(wire.on_loss())));
  if (wire.on_loss() == v1::ON_LOSS_CONTINUE) request.on_loss = OnLoss::kContinue;
  if (wire.on_loss() == v1::ON_LOSS_FAIL) request.on_loss = OnLoss::kFail;
  if (wire.has_replay()) RETURN_IF_ERROR(ParseReplay(wire.replay(), request));
  return request;
}

}  // namespace conclave::router
