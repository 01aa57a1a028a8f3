#include "router/api/request_metrics.h"

#include <algorithm>
#include <array>
#include <utility>

#include "common/types.h"

namespace conclave::router {
namespace {

std::string CodeName(absl::StatusCode code) { return absl::StatusCodeToString(code); }

constexpr int kCodes = 17;  // OK to UNAUTHENTICATED.
constexpr std::array kModes = {Mode::kInstant, Mode::kThinking, Mode::kContemplating};

const char* NameOf(Finish finish) {
  switch (finish) {
    case Finish::kStop:
      return "stop";
    case Finish::kLength:
      return "length";
    case Finish::kBar:
      return "bar";
    case Finish::kCancelled:
      break;  // Its group's word; the router cuts.
  }
  return "withdrawn";
}

constexpr const char* kAgreed = "agreed";  // It ended with what its probes agreed on.

const char* NameOf(CutReason reason) {
  switch (reason) {
    case CutReason::kSettled:
      return "settled";
    case CutReason::kDeadline:
      return "deadline";
    case CutReason::kDropped:
      return "dropped";
    case CutReason::kStopped:
      break;
  }
  return "stopped";
}

const char* NameOf(Decision::Kind kind) {
  switch (kind) {
    case Decision::Kind::kJoin:
      return "join";
    case Decision::Kind::kNarrow:
      return "narrow";
    case Decision::Kind::kDrop:
      return "drop";
    case Decision::Kind::kDeadline:
      return "deadline";
    case Decision::Kind::kStopNow:
      break;
  }
  return "stop_now";
}

const char* NameOf(const std::optional<Aggregation>& method) {
  if (!method) return "one";
  switch (*method) {
    case Aggregation::kSynthesise:
      return "synthesise";
    case Aggregation::kWeightedVote:
      return "weighted_vote";
    case Aggregation::kSelect:
      return "select";
    case Aggregation::kCheck:
      return "check";
    case Aggregation::kVote:
    case Aggregation::kAuto:
      break;
  }
  return "vote";
}

// One label besides the model, and what it can say.
struct Family {
  const char* name;
  const char* label;
  std::vector<const char*> values;
};

const std::vector<Family>& Families() {
  static const std::vector<Family> families = {
      {"conclave_tokens_total",
       "fate",
       {"thinking", "answer", "aggregation", "discarded", "probe", "cancelled"}},
      {"conclave_prompt_tokens_total", "source", {"computed", "shared", "recomputed"}},
      {"conclave_agents_total",
       "outcome",
       {"stop", "length", "bar", "agreed", "settled", "deadline", "dropped", "stopped", "withdrawn",
        "abandoned"}},
      {"conclave_rounds_total", "kind", {"first", "refine", "split", "parts"}},
      {"conclave_waves_total", "fate", {"entered", "spared"}},
      {"conclave_aggregations_total", "by", {"own", "other"}},
      {"conclave_answers_total",
       "method",
       {"one", "vote", "weighted_vote", "synthesise", "select", "check"}},
      {"conclave_checked_answers_total", "verdict", {"accepted", "rejected"}},
      {"conclave_checked_requests_total", "outcome", {"accepted", "lost", "none"}},
      {"conclave_decisions_total", "kind", {"join", "narrow", "drop", "deadline", "stop_now"}},
  };
  return families;
}

constexpr std::array kByModel = {
    "conclave_critical_path_tokens_total", "conclave_agents_planned_total",
    "conclave_agents_started_total",       "conclave_agents_narrowed_total",
    "conclave_stop_unused_tokens_total",   "conclave_answers_incomplete_total",
    "conclave_agent_resumes_total"};
constexpr std::array kHistogramsByModel = {"conclave_agreement_ratio",
                                           "conclave_amplification_ratio"};
constexpr std::array kHistogramsByMode = {"conclave_time_to_first_token_seconds",
                                          "conclave_time_to_first_answer_seconds",
                                          "conclave_request_duration_seconds"};

int64_t Produced(const Receipt& receipt) {
  return receipt.thinking_tokens + receipt.answer_tokens + receipt.aggregation_tokens +
         receipt.discarded_tokens + receipt.probe_tokens;
}

}  // namespace

const char* NameOf(Mode mode) {
  return mode == Mode::kInstant    ? "instant"
         : mode == Mode::kThinking ? "thinking"
                                   : "contemplating";
}

RequestMetrics::RequestMetrics(Metrics& metrics, const std::set<std::string>& tenants)
    : metrics_(metrics),
      running_(metrics.AddGauge("conclave_requests_running")),
      queued_(metrics.AddGauge("conclave_requests_queued")),
      groups_ready_(metrics.AddGauge("conclave_groups_ready")),
      queue_wait_(metrics.AddHistogram("conclave_queue_wait_seconds")) {
  for (const std::string& tenant : tenants) {
    metrics.AddCounter("conclave_tenant_requests_total", {{"tenant", tenant}});
    metrics.AddCounter("conclave_tenant_tokens_total", {{"tenant", tenant}});
  }
  for (const char* how : {"reattached", "run_again"}) {
    metrics.AddCounter("conclave_streams_resumed_total", {{"how", how}});
  }
  for (int code = 1; code < kCodes; ++code) {
    const std::string name = CodeName(static_cast<absl::StatusCode>(code));
    metrics.AddCounter("conclave_requests_total",
                       {{"model", ""}, {"mode", "unknown"}, {"code", name}});
    metrics.AddCounter("conclave_resumes_refused_total", {{"code", name}});
  }
}

void RequestMetrics::Meet(const std::string& model) {
  {
    absl::MutexLock lock(&mutex_);
    if (!met_.insert(model).second) return;
  }
  for (const Family& family : Families()) {
    for (const char* value : family.values) {
      metrics_.AddCounter(family.name, {{"model", model}, {family.label, value}});
    }
  }
  for (const char* name : kByModel) metrics_.AddCounter(name, {{"model", model}});
  for (const char* name : kHistogramsByModel) metrics_.AddHistogram(name, {{"model", model}});
  for (const Mode mode : kModes) {
    for (const char* name : kHistogramsByMode) {
      metrics_.AddHistogram(name, {{"model", model}, {"mode", NameOf(mode)}});
    }
    for (int code = 0; code < kCodes; ++code) {
      metrics_.AddCounter("conclave_requests_total",
                          {{"model", model},
                           {"mode", NameOf(mode)},
                           {"code", CodeName(static_cast<absl::StatusCode>(code))}});
    }
  }
}

RequestCount RequestMetrics::Count(const std::string& tenant, const Plan& plan) {
  return RequestCount(*this, tenant, plan);
}

void RequestMetrics::Ended(const std::string& model, const char* mode, const absl::Status& status) {
  metrics_
      .AddCounter("conclave_requests_total",
                  {{"model", model}, {"mode", mode}, {"code", CodeName(status.code())}})
      .Add();
}

void RequestMetrics::Resumed(const char* how) {
  metrics_.AddCounter("conclave_streams_resumed_total", {{"how", how}}).Add();
}

void RequestMetrics::ResumeRefused(const absl::Status& why) {
  metrics_.AddCounter("conclave_resumes_refused_total", {{"code", CodeName(why.code())}}).Add();
}

void RequestMetrics::SetAdmission(int running, int queued) {
  running_.Set(running);
  queued_.Set(queued);
}

void RequestCount::On(const ClientEvent& event) {
  if (const auto* admitted = std::get_if<Admitted>(&event.what)) {
    metrics_.metrics_.AddCounter("conclave_agents_planned_total", {{"model", model_}})
        .Add(admitted->agents);
  } else if (const auto* decision = std::get_if<Decision>(&event.what);
             decision != nullptr && decision->kind == Decision::Kind::kNarrow) {
    metrics_.metrics_.AddCounter("conclave_agents_narrowed_total", {{"model", model_}})
        .Add(static_cast<double>(decision->agents.size()));
  } else if (const auto* merging = std::get_if<AggregationStarted>(&event.what)) {
    metrics_.metrics_
        .AddCounter("conclave_aggregations_total",
                    {{"model", model_}, {"by", merging->model.empty() ? "own" : "other"}})
        .Add();
  } else if (const auto* started = std::get_if<AgentStarted>(&event.what)) {
    agents_[event.agent] = {.grant = started->grant, .outcome = "abandoned"};
    metrics_.metrics_.AddCounter("conclave_agents_started_total", {{"model", model_}}).Add();
  } else if (const auto* finished = std::get_if<AgentFinished>(&event.what)) {
    Ends(event.agent, finished->probes_agreed ? kAgreed : NameOf(finished->reason));
  } else if (const auto* cut = std::get_if<AgentCut>(&event.what)) {
    Ends(event.agent, NameOf(cut->reason));
  } else if (const auto* completed = std::get_if<Completed>(&event.what)) {
    answered_ = true;
    Metrics& metrics = metrics_.metrics_;
    metrics
        .AddCounter("conclave_answers_total",
                    {{"model", model_}, {"method", NameOf(completed->method)}})
        .Add();
    metrics.AddCounter("conclave_answers_incomplete_total", {{"model", model_}})
        .Add(completed->incomplete ? 1 : 0);
    Take(completed->receipt);
    TakeVerdicts(*completed);
  }
}

// One that never started is cut too: its receipt has it as withdrawn.
void RequestCount::Ends(AgentId agent, std::string_view outcome) {
  if (const auto found = agents_.find(agent); found != agents_.end()) {
    found->second.outcome = outcome;
  }
}

void RequestCount::Take(const Receipt& receipt) {
  Metrics& metrics = metrics_.metrics_;
  const auto add = [&](const char* name, const char* label, const char* value, int64_t count) {
    metrics.AddCounter(name, {{"model", model_}, {label, value}}).Add(static_cast<double>(count));
  };
  add("conclave_tokens_total", "fate", "thinking", receipt.thinking_tokens);
  add("conclave_tokens_total", "fate", "answer", receipt.answer_tokens);
  add("conclave_tokens_total", "fate", "aggregation", receipt.aggregation_tokens);
  add("conclave_tokens_total", "fate", "discarded", receipt.discarded_tokens);
  for (const Decision& decision : receipt.decisions) {
    add("conclave_decisions_total", "kind", NameOf(decision.kind), 1);
  }
  metrics.AddCounter("conclave_agent_resumes_total", {{"model", model_}}).Add(receipt.resumes);
  metrics.AddCounter("conclave_critical_path_tokens_total", {{"model", model_}})
      .Add(static_cast<double>(receipt.critical_path_tokens));
  Observe("conclave_time_to_first_answer_seconds", receipt.time_to_first_answer);
  Observe("conclave_request_duration_seconds", receipt.wall_time);
  TakeAgents(receipt);
  TakeRounds(receipt);
  TakeVote(receipt);
}

// Of each round the last agent says how many of its waves came.
void RequestCount::TakeRounds(const Receipt& receipt) {
  Metrics& metrics = metrics_.metrics_;
  std::map<int, int> last;  // Round of those that answer the question -> its last agent's index.
  bool split = false, parts = false;
  for (const AgentUsage& agent : receipt.agents) {
    split = split || StageOf(agent.agent) == kSplitStage;
    parts = parts || StageOf(agent.agent) == kPartStage;
    if (StageOf(agent.agent) != kThinkStage) continue;
    int& index = last[RoundOf(agent.agent)];
    index = std::max(index, IndexOf(agent.agent));
  }
  const auto add = [&](const char* name, const char* label, const char* value, double count) {
    metrics.AddCounter(name, {{"model", model_}, {label, value}}).Add(count);
  };
  add("conclave_rounds_total", "kind", "split", split ? 1 : 0);
  add("conclave_rounds_total", "kind", "parts", parts ? 1 : 0);
  for (const auto& [round, index] : last) {
    add("conclave_rounds_total", "kind", round == 0 ? "first" : "refine", 1);
    int entered = 0, agents = 0;
    for (const int wave : waves_) {
      if (agents > index) break;
      agents += wave;
      ++entered;
    }
    add("conclave_waves_total", "fate", "entered", entered);
    add("conclave_waves_total", "fate", "spared", static_cast<double>(waves_.size()) - entered);
  }
}

void RequestCount::TakeAgents(const Receipt& receipt) {
  Metrics& metrics = metrics_.metrics_;
  Counter unused = metrics.AddCounter("conclave_stop_unused_tokens_total", {{"model", model_}});
  for (const AgentUsage& agent : receipt.agents) {
    const auto known = agents_.find(agent.agent);
    const Started started = known == agents_.end() ? Started{0, "withdrawn"} : known->second;
    const std::string outcome(agent.cut             ? started.outcome
                              : agent.probes_agreed ? kAgreed
                                                    : NameOf(agent.reason));
    metrics.AddCounter("conclave_agents_total", {{"model", model_}, {"outcome", outcome}}).Add();
    if (outcome != NameOf(CutReason::kSettled)) continue;
    unused.Add(std::max(0, started.grant - agent.kept - agent.discarded));
  }
}

// Of a request without a checker there are none.
void RequestCount::TakeVerdicts(const Completed& completed) {
  bool any = false, found = false;
  for (const AgentUsage& agent : completed.receipt.agents) {
    if (!agent.accepted) continue;
    any = true;
    found = found || *agent.accepted;
    const char* verdict = *agent.accepted ? "accepted" : "rejected";
    metrics_.metrics_
        .AddCounter("conclave_checked_answers_total", {{"model", model_}, {"verdict", verdict}})
        .Add();
  }
  if (!any) return;
  const char* outcome = completed.accepted.value_or(false) ? "accepted" : found ? "lost" : "none";
  metrics_.metrics_
      .AddCounter("conclave_checked_requests_total", {{"model", model_}, {"outcome", outcome}})
      .Add();
}

void RequestCount::TakeVote(const Receipt& receipt) {
  int leader = 0, all = 0;  // Heads: weights may give one agent nearly all.
  for (const Vote& vote : receipt.votes) {
    leader = std::max(leader, vote.count);
    all += vote.count;
  }
  Metrics& metrics = metrics_.metrics_;
  if (all > 0) {
    metrics.AddHistogram("conclave_agreement_ratio", {{"model", model_}})
        .Observe(static_cast<double>(leader) / all);
  }
  if (mode_ == Mode::kContemplating && receipt.critical_path_tokens > 0) {
    metrics.AddHistogram("conclave_amplification_ratio", {{"model", model_}})
        .Observe(static_cast<double>(Produced(receipt)) /
                 static_cast<double>(receipt.critical_path_tokens));
  }
}

void RequestCount::Observe(const char* name, absl::Duration duration) {
  metrics_.metrics_.AddHistogram(name, {{"model", model_}, {"mode", NameOf(mode_)}})
      .Observe(absl::ToDoubleSeconds(duration));
}

void RequestCount::FirstToken(absl::Duration after_admission) {
  Observe("conclave_time_to_first_token_seconds", after_admission);
}

void RequestCount::TakeBill(const Bill& bill) {
  Metrics& metrics = metrics_.metrics_;
  const auto add = [&](const char* name, const char* label, const char* value, int64_t count) {
    metrics.AddCounter(name, {{"model", model_}, {label, value}}).Add(static_cast<double>(count));
  };
  if (!answered_) add("conclave_tokens_total", "fate", "cancelled", bill.tokens);
  add("conclave_tokens_total", "fate", "probe", bill.probe_tokens);
  add("conclave_prompt_tokens_total", "source", "computed", bill.prompt.computed);
  add("conclave_prompt_tokens_total", "source", "shared", bill.prompt.shared);
  add("conclave_prompt_tokens_total", "source", "recomputed", bill.prompt.recomputed);
  metrics.AddCounter("conclave_tenant_tokens_total", {{"tenant", tenant_}})
      .Add(static_cast<double>(bill.tokens + bill.probe_tokens));
}

void RequestCount::Ended(const absl::Status& status, const Bill& bill) {
  Metrics& metrics = metrics_.metrics_;
  metrics_.Ended(model_, NameOf(mode_), status);
  metrics.AddCounter("conclave_tenant_requests_total", {{"tenant", tenant_}}).Add();
  TakeBill(bill);
  if (answered_) return;
  for (const auto& [agent, started] : agents_) {
    metrics
        .AddCounter("conclave_agents_total",
                    {{"model", model_}, {"outcome", std::string(started.outcome)}})
        .Add();
  }
}

}  // namespace conclave::router
