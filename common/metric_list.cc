#include "common/metric_list.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace conclave {
namespace {

constexpr MetricKind kCounter = MetricKind::kCounter;
constexpr MetricKind kGauge = MetricKind::kGauge;
constexpr MetricKind kHistogram = MetricKind::kHistogram;

// 1 ms to 10 minutes.
const std::vector<double> kSeconds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                      1,     2.5,    5,     10,   30,    60,   150, 600};
const std::vector<double> kPowersOfTwo = {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};
const std::vector<double> kShares = {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1};
const std::vector<double> kTimes = {1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64};

const char* NameOf(MetricKind kind) {
  return kind == kCounter ? "counter" : kind == kGauge ? "gauge" : "histogram";
}

std::vector<MetricSpec> RouterRequests() {
  const std::string from = "router, requests";
  return {
      {"conclave_requests_running", kGauge, from, "Requests that run."},
      {"conclave_requests_queued", kGauge, from, "Requests that wait to enter."},
      {"conclave_requests_total",
       kCounter,
       from,
       "Requests that ended, or were refused. The model is empty where none was found.",
       {"model", "mode", "code"}},
      {"conclave_queue_wait_seconds",
       kHistogram,
       from,
       "From a request's arrival to its admission.",
       {},
       kSeconds},
      {"conclave_time_to_first_token_seconds",
       kHistogram,
       from,
       "From admission to the first token of any agent.",
       {"model", "mode"},
       kSeconds},
      {"conclave_time_to_first_answer_seconds",
       kHistogram,
       from,
       "From admission to the first byte of the answer.",
       {"model", "mode"},
       kSeconds},
      {"conclave_request_duration_seconds",
       kHistogram,
       from,
       "From admission to the receipt, of requests that were answered.",
       {"model", "mode"},
       kSeconds},
      {"conclave_tenant_requests_total",
       kCounter,
       from,
       "Admitted requests that ended.",
       {"tenant"}},
      {"conclave_tenant_tokens_total",
       kCounter,
       from,
       "Tokens that agents produced, whatever became of them.",
       {"tenant"}},
      {"conclave_streams_resumed_total",
       kCounter,
       from,
       "Streams that were taken up: where the request was kept, or by running it again.",
       {"how"}},
      {"conclave_resumes_refused_total",
       kCounter,
       from,
       "Streams that could not be taken up.",
       {"code"}},
      {"conclave_requests_outlived_total", kCounter, from,
       "Requests that were kept when their client's stream ended."},
      {"conclave_requests_kept", kGauge, from, "Requests without a client that are kept."},
      {"conclave_kept_log_bytes", kGauge, from,
       "Bytes held so that streams can be taken up again."},
  };
}

std::vector<MetricSpec> RouterContemplation() {
  const std::string from = "router, contemplation";
  return {
      {"conclave_tokens_total",
       kCounter,
       from,
       "Tokens that agents produced, by their fate: thinking, answer and aggregation were kept; "
       "discarded came past a cut; probe were given to copies and drawn by them; cancelled were of "
       "requests that ended without an answer.",
       {"model", "fate"}},
      {"conclave_prompt_tokens_total",
       kCounter,
       from,
       "Prompt tokens of requests: computed, shared (found in the cache, or computed for another "
       "agent), or recomputed (tokens of agents and their copies, too) after a loss, a preemption "
       "or an eviction.",
       {"model", "source"}},
      {"conclave_critical_path_tokens_total",
       kCounter,
       from,
       "Tokens of answered requests that had to come one after another.",
       {"model"}},
      {"conclave_agents_planned_total",
       kCounter,
       from,
       "Agents that requests were planned with: those that started, that were narrowed, and that "
       "nobody needed any more.",
       {"model"}},
      {"conclave_agents_started_total", kCounter, from, "Agents that a group took in.", {"model"}},
      {"conclave_agents_narrowed_total",
       kCounter,
       from,
       "Agents kept out by a Narrow: there was no room for them, or they were not worth their "
       "price at that load.",
       {"model"}},
      {"conclave_agents_total",
       kCounter,
       from,
       "Agents of ended requests. Ended by themselves: stop, length, bar; with what their probes "
       "agreed on: agreed. Cut: settled, deadline, dropped, stopped. withdrawn: no longer wanted "
       "when they were taken in; abandoned: their request ended without an answer.",
       {"model", "outcome"}},
      {"conclave_rounds_total",
       kCounter,
       from,
       "Rounds of answered requests: first and refine, whose agents answer the question; split, "
       "and parts.",
       {"model", "kind"}},
      {"conclave_waves_total",
       kCounter,
       from,
       "Waves of those rounds that answer the question: entered, or spared, as nobody needed them "
       "any more.",
       {"model", "fate"}},
      {"conclave_aggregations_total",
       kCounter,
       from,
       "Last passes that were begun: by the agents' own model, or by another one.",
       {"model", "by"}},
      {"conclave_stop_unused_tokens_total",
       kCounter,
       from,
       "Tokens that were granted to agents cut by the stop rule and not produced: it saved so many "
       "at most.",
       {"model"}},
      {"conclave_answers_total",
       kCounter,
       from,
       "Answers by how they were found; one: there was one agent.",
       {"model", "method"}},
      {"conclave_checked_answers_total",
       kCounter,
       from,
       "Agents' answers that a checker accepted or rejected, of answered requests.",
       {"model", "verdict"}},
      {"conclave_checked_requests_total",
       kCounter,
       from,
       "Answered requests whose checker saw an answer. accepted: it accepts what was answered; "
       "lost: it accepted an agent's answer and not that one, the selection loss; none: it "
       "accepted none.",
       {"model", "outcome"}},
      {"conclave_answers_incomplete_total",
       kCounter,
       from,
       "Answers that a deadline, a stop, a loss or a limit cut short.",
       {"model"}},
      {"conclave_agreement_ratio",
       kHistogram,
       from,
       "The greatest share of the agents that one answer has, of answers with a vote.",
       {"model"},
       kShares},
      {"conclave_amplification_ratio",
       kHistogram,
       from,
       "Tokens of all agents over those of the critical path, of contemplating requests.",
       {"model"},
       kTimes},
      {"conclave_decisions_total",
       kCounter,
       from,
       "What clock, load or failures decided: join, narrow, drop, deadline, stop_now.",
       {"model", "kind"}},
      {"conclave_agent_resumes_total",
       kCounter,
       from,
       "Agents that went on after a loss, of answered requests.",
       {"model"}},
  };
}

std::vector<MetricSpec> RouterFleet() {
  const std::string from = "router, fleet";
  return {
      {"conclave_families_waiting", kGauge, from, "Families that wait for a group."},
      {"conclave_groups", kGauge, from, "Groups that are members."},
      {"conclave_groups_ready", kGauge, from, "Groups that take families."},
      {"conclave_groups_leaving", kGauge, from,
       "Groups that are no longer members, and end what they serve."},
      {"conclave_groups_left_out", kGauge, from, "Addresses beyond workers.max_groups."},
      {"conclave_group_ready", kGauge, from, "1 when the group takes families.", {"group"}},
      {"conclave_group_credits", kGauge, from, "Agents that the group would take now.", {"group"}},
      {"conclave_group_losses_total", kCounter, from, "Families that lost the group.", {"group"}},
      {"conclave_group_rests_total",
       kCounter,
       from,
       "Times the group was left alone for what it lost.",
       {"group"}},
      {"conclave_dns_resolutions_total",
       kCounter,
       from,
       "Times that workers.dns was resolved: ok, or failed.",
       {"result"}},
      {"conclave_dns_addresses", kGauge, from,
       "Addresses that workers.dns had when it last resolved."},
  };
}

std::vector<MetricSpec> WorkerLeader() {
  const std::string engine = "worker's leader, engine", group = "worker's leader, group";
  return {
      {"conclave_worker_agents_running",
       kGauge,
       engine,
       "Agents that hold KV.",
       {},
       {},
       "vllm:num_requests_running"},
      {"conclave_worker_agents_waiting",
       kGauge,
       engine,
       "Agents that were taken in and hold no KV: not begun yet, or preempted.",
       {},
       {},
       "vllm:num_requests_waiting"},
      {"conclave_worker_agents_max", kGauge, engine, "Agents that can run at a time."},
      {"conclave_worker_families", kGauge, engine, "Families that are open."},
      {"conclave_worker_queued_prompt_tokens", kGauge, engine,
       "Prompt tokens accepted and not yet computed."},
      {"conclave_worker_kv_usage_ratio",
       kGauge,
       engine,
       "Share of the KV blocks that running agents hold, 0 to 1.",
       {},
       {},
       "vllm:kv_cache_usage_perc"},
      {"conclave_worker_cache_info",
       kGauge,
       engine,
       "1; the labels say how large the KV cache is.",
       {"block_size", "num_gpu_blocks"},
       {},
       "vllm:cache_config_info"},
      {"conclave_worker_steps_total", kCounter, engine, "Steps of the group."},
      {"conclave_worker_step_seconds",
       kHistogram,
       engine,
       "From a plan's submission to its result.",
       {},
       kSeconds},
      {"conclave_worker_step_rows",
       kHistogram,
       engine,
       "Rows (tokens) of one step.",
       {},
       kPowersOfTwo,
       "vllm:iteration_tokens_total"},
      {"conclave_worker_inter_token_seconds",
       kHistogram,
       engine,
       "Between two tokens of an agent, times included in which it waits for its siblings.",
       {},
       kSeconds,
       "vllm:inter_token_latency_seconds"},
      {"conclave_worker_prompt_tokens_total",
       kCounter,
       engine,
       "Prompt tokens of agents that were taken in.",
       {},
       {},
       "vllm:prompt_tokens_total"},
      {"conclave_worker_prompt_tokens_computed_total", kCounter, engine,
       "Prompt tokens that were run through the model."},
      {"conclave_worker_prefix_hit_tokens_total", kCounter, engine,
       "Tokens whose KV was found in the cache."},
      {"conclave_worker_tokens_sampled_total",
       kCounter,
       engine,
       "Tokens drawn.",
       {},
       {},
       "vllm:generation_tokens_total"},
      {"conclave_worker_tokens_forced_total", kCounter, engine,
       "Tokens given to agents: the ends of thinking, at its budget."},
      {"conclave_worker_overrun_tokens_total", kCounter, engine,
       "Tokens drawn and dropped: what came before them ended the agent, or forced others."},
      {"conclave_worker_probes_total",
       kCounter,
       engine,
       "Copies of agents that were asked for their answer, by how that ended: answered, or dropped "
       "because their agent had ended.",
       {"end"}},
      {"conclave_worker_probe_tokens_total", kCounter, engine,
       "Tokens of such copies, drawn and forced; no other metric counts them."},
      {"conclave_worker_preemptions_total",
       kCounter,
       engine,
       "Agents that had to give their blocks away.",
       {},
       {},
       "vllm:num_preemptions_total"},
      {"conclave_worker_evicted_blocks_total", kCounter, engine,
       "KV blocks of the prefix cache given up for others."},
      {"conclave_worker_ready", kGauge, group, "1 while families are taken."},
      {"conclave_worker_epoch", kGauge, group, "Counts up each time the group is formed anew."},
      {"conclave_worker_losses_total", kCounter, group, "Times that the group was lost."},
      {"conclave_worker_info",
       kGauge,
       group,
       "1; the labels say what the group serves.",
       {"model", "fingerprint", "ranks"}},
  };
}

std::vector<MetricSpec> Process() {
  const std::string from = "every program, its process";
  return {
      {"process_resident_memory_bytes", kGauge, from, "Memory that is held."},
      {"process_cpu_seconds_total", kCounter, from, "Processor time, user and system."},
      {"process_open_fds", kGauge, from, "Open file descriptors."},
      {"process_max_fds", kGauge, from, "Most file descriptors that may be open."},
      {"process_start_time_seconds", kGauge, from, "When it started, in seconds since 1970."},
      {"conclave_build_info", kGauge, from, "1; the label says which version runs.", {"version"}},
  };
}

}  // namespace

const std::vector<MetricSpec>& MetricList() {
  static const std::vector<MetricSpec> list = [] {
    std::vector<MetricSpec> all;
    for (const auto& part :
         {RouterRequests(), RouterContemplation(), RouterFleet(), WorkerLeader(), Process()}) {
      all.insert(all.end(), part.begin(), part.end());
    }
    return all;
  }();
  return list;
}

std::string MetricTable(const std::vector<MetricSpec>& list) {
  std::string table = "| name | type | labels | meaning | also as |\n|---|---|---|---|---|\n";
  std::string from;
  for (const MetricSpec& spec : list) {
    if (spec.from != from) table += fmt::format("| **{}** |  |  |  |  |\n", from = spec.from);
    table += fmt::format("| `{}` | {} | {} | {} | {} |\n", spec.name, NameOf(spec.kind),
                         fmt::join(spec.labels, ", "), spec.help,
                         spec.alias.empty() ? "" : "`" + spec.alias + "`");
  }
  return table;
}

}  // namespace conclave
