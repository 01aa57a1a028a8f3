#include "cli/eval/outcome.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "common/json_parse.h"
#include "common/status.h"
#include "common/types.h"

namespace conclave::cli {
namespace {

using nlohmann::json;
using nlohmann::ordered_json;

constexpr JsonLimits kLimits = {.depth = 8, .keys = 64, .values = 10'000};

bool Thinks(uint32_t agent) { return StageOf(AgentId{agent}) == kThinkStage; }
int RoundNumber(uint32_t agent) { return RoundOf(AgentId{agent}); }

double ToSeconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + 1e-9 * duration.nanos();
}

// Reads what is there; what is not keeps its default, so that later versions may add fields.
template <typename T>
void Read(const json& object, const char* key, T& target) {
  if (const auto found = object.find(key); found != object.end()) found->get_to(target);
}

ordered_json AgentJson(const AgentOutcome& agent) {
  ordered_json one;
  one["agent"] = agent.agent;
  if (agent.answer) one["answer"] = *agent.answer;
  one["right"] = agent.right;
  one["tokens"] = agent.tokens;
  if (agent.confidence > 0) one["confidence"] = agent.confidence;
  return one;
}

AgentOutcome AgentOf(const json& one) {
  AgentOutcome agent;
  Read(one, "agent", agent.agent);
  if (one.contains("answer")) agent.answer = one["answer"].get<std::string>();
  Read(one, "right", agent.right);
  Read(one, "tokens", agent.tokens);
  Read(one, "confidence", agent.confidence);
  return agent;
}

}  // namespace

std::string OutcomeToJson(const Outcome& o) {
  ordered_json line;
  line["arm"] = o.arm;
  line["problem"] = o.problem;
  line["tries"] = o.tries;
  line["seconds"] = o.seconds;
  if (!o.error.empty()) {
    line["error"] = o.error;
  } else {
    line["right"] = o.right;
    line["answer"] = o.answer;
    if (o.incomplete) line["incomplete"] = true;
    if (!o.method.empty()) line["method"] = o.method;
    line["first_seconds"] = o.first_seconds;
    line["entered"] = o.entered;
    line["left_out"] = o.left_out;
    line["cut"] = o.cut;
    line["kept"] = o.kept;
    line["aggregation"] = o.aggregation;
    line["probes"] = o.probes;
    line["discarded"] = o.discarded;
    line["prompt"] = o.prompt;
    line["prompt_computed"] = o.prompt_computed;
    line["critical_path"] = o.critical_path;
    line["early"] = o.early;
    line["agents"] = ordered_json::array();
    for (const AgentOutcome& agent : o.agents) line["agents"].push_back(AgentJson(agent));
  }
  return line.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

absl::StatusOr<Outcome> OutcomeFromJson(std::string_view text) {
  ASSIGN_OR_RETURN(const json line, ParseJsonWithin(kLimits, text));
  Outcome o;
  try {
    Read(line, "arm", o.arm);
    Read(line, "problem", o.problem);
    Read(line, "tries", o.tries);
    Read(line, "seconds", o.seconds);
    Read(line, "error", o.error);
    Read(line, "right", o.right);
    Read(line, "answer", o.answer);
    Read(line, "incomplete", o.incomplete);
    Read(line, "method", o.method);
    Read(line, "first_seconds", o.first_seconds);
    Read(line, "entered", o.entered);
    Read(line, "left_out", o.left_out);
    Read(line, "cut", o.cut);
    Read(line, "kept", o.kept);
    Read(line, "aggregation", o.aggregation);
    Read(line, "probes", o.probes);
    Read(line, "discarded", o.discarded);
    Read(line, "prompt", o.prompt);
    Read(line, "prompt_computed", o.prompt_computed);
    Read(line, "critical_path", o.critical_path);
    Read(line, "early", o.early);
    for (const json& agent : line.value("agents", json::array())) {
      o.agents.push_back(AgentOf(agent));
    }
  } catch (const json::exception&) {
    return InvalidArgument("is no outcome: a field has another kind of value");
  }
  if (o.arm.empty() || o.problem.empty()) return InvalidArgument("is no outcome");
  return o;
}

void Watcher::On(const v1::GenerateResponse& event) {
  const uint32_t agent = event.agent();
  switch (event.event_case()) {
    case v1::GenerateResponse::kAgentStarted:
      starts_.emplace(agent, clock_);  // Unless it joined.
      return;
    case v1::GenerateResponse::kAgentFinished:
      return OnFinished(agent, event.agent_finished());
    case v1::GenerateResponse::kProbeAnswer:
      if (!Thinks(agent)) return;
      opinions_.push_back({.clock = starts_[agent] + event.probe_answer().at(),
                           .agent = agent,
                           .answer = event.probe_answer().answer()});
      return;
    case v1::GenerateResponse::kCheckerVerdict:
      if (!opinions_.empty() && opinions_.back().agent == agent) {
        opinions_.back().accepted = event.checker_verdict().accepted();
      }
      return;
    case v1::GenerateResponse::kDecision:
      return OnDecision(event.decision());
    case v1::GenerateResponse::kCompleted:
      complete_ = true;
      completed_ = event.completed();
      return;
    default:
      return;
  }
}

void Watcher::OnDecision(const v1::Decision& decision) {
  if (decision.kind() != v1::Decision::KIND_JOIN) return;
  for (const uint32_t agent : decision.agents()) starts_[agent] = decision.clock();
}

void Watcher::OnFinished(uint32_t agent, const v1::AgentFinished& finished) {
  clock_ = std::max(clock_, starts_[agent] + finished.tokens());
  if (!Thinks(agent)) return;
  Ended ended{.agent = agent,
              .answer = std::nullopt,
              .tokens = finished.tokens(),
              .confidence = finished.confidence()};
  if (finished.has_answer() && finished.reason() != v1::FINISH_REASON_BAR) {
    ended.answer = finished.answer();
  }
  opinions_.push_back(
      {.clock = clock_, .agent = agent, .answer = ended.answer.value_or(std::string())});
  ended_.push_back(std::move(ended));
}

std::string Watcher::AnswerAt(int64_t clock) const {
  // The last opinion of each agent of the last round that has any.
  std::map<uint32_t, const Opinion*> last;
  int round = -1;
  for (const Opinion& opinion : opinions_) {
    if (opinion.clock > clock || opinion.answer.empty()) continue;
    round = std::max(round, RoundNumber(opinion.agent));
    const Opinion*& mine = last[opinion.agent];
    if (mine == nullptr || mine->clock <= opinion.clock) mine = &opinion;
  }
  std::vector<const Opinion*> votes;
  for (const auto& [agent, opinion] : last) {
    if (RoundNumber(agent) == round) votes.push_back(opinion);
  }
  std::stable_sort(votes.begin(), votes.end(),
                   [](const Opinion* a, const Opinion* b) { return a->clock < b->clock; });
  std::map<std::string_view, int> counts;
  int most = 0;
  for (const Opinion* vote : votes) {
    if (vote->accepted) return vote->answer;
    most = std::max(most, ++counts[vote->answer]);
  }
  for (const Opinion* vote : votes) {
    if (counts[vote->answer] == most) return vote->answer;
  }
  return "";
}

void Watcher::AddAgents(Outcome& outcome) const {
  int round = 0;
  for (const Ended& ended : ended_) round = std::max(round, RoundNumber(ended.agent));
  for (const Ended& ended : ended_) {
    if (RoundNumber(ended.agent) != round) continue;
    outcome.agents.push_back({.agent = ended.agent,
                              .answer = ended.answer,
                              .right = ended.answer && is_right_(*ended.answer),
                              .tokens = ended.tokens,
                              .confidence = ended.confidence});
  }
  if (!ended_.empty()) return;
  // A single agent's end is the request's.
  for (const v1::AgentUsage& usage : completed_.receipt().agents()) {
    if (usage.cut() || !Thinks(usage.agent())) continue;
    outcome.agents.push_back(
        {.agent = usage.agent(),
         .answer = usage.has_answer() ? std::optional(usage.answer()) : std::nullopt,
         .right = usage.has_answer() && is_right_(usage.answer()),
         .tokens = usage.kept()});
  }
}

Outcome Watcher::Take(bool right) const {
  const v1::Receipt& receipt = completed_.receipt();
  Outcome o;
  o.right = right;
  o.incomplete = completed_.incomplete();
  if (completed_.method() != v1::AGGREGATION_UNSPECIFIED) {
    constexpr std::string_view kPrefix = "AGGREGATION_";
    o.method = v1::Aggregation_Name(completed_.method());
    if (o.method.starts_with(kPrefix)) o.method.erase(0, kPrefix.size());
  }
  for (const v1::Decision& decision : receipt.decisions()) {
    const bool fewer =
        decision.kind() == v1::Decision::KIND_NARROW || decision.kind() == v1::Decision::KIND_DROP;
    if (fewer) o.left_out += decision.agents_size();
  }
  o.entered = receipt.agents_size();
  o.cut = receipt.agents_cut();
  o.aggregation = receipt.aggregation_tokens();
  o.kept = receipt.thinking_tokens() + receipt.answer_tokens() + o.aggregation;
  o.probes = receipt.probe_tokens();
  o.discarded = receipt.discarded_tokens();
  o.prompt = receipt.prompt().total();
  o.prompt_computed = receipt.prompt().computed();
  o.critical_path = receipt.critical_path_tokens();
  o.first_seconds = ToSeconds(receipt.time_to_first_answer());
  AddAgents(o);
  for (int i = 1; i < kFractions; ++i) {
    const std::string early = AnswerAt(o.critical_path * i / kFractions);
    o.early[static_cast<size_t>(i) - 1] = !early.empty() && is_right_(early);
  }
  o.early[kFractions - 1] = right;
  return o;
}

}  // namespace conclave::cli
