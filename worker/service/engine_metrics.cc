#include "worker/service/engine_metrics.h"

namespace conclave::worker {

EngineMetrics::EngineMetrics(Metrics& metrics, const MeasuredGroup& group)
    : metrics_(metrics),
      agents_running_(metrics.AddGauge("conclave_worker_agents_running")),
      agents_waiting_(metrics.AddGauge("conclave_worker_agents_waiting")),
      agents_max_(metrics.AddGauge("conclave_worker_agents_max")),
      families_(metrics.AddGauge("conclave_worker_families")),
      queued_prompt_tokens_(metrics.AddGauge("conclave_worker_queued_prompt_tokens")),
      kv_usage_(metrics.AddGauge("conclave_worker_kv_usage_ratio")),
      ready_(metrics.AddGauge("conclave_worker_ready")),
      steps_(metrics.AddCounter("conclave_worker_steps_total")),
      prompt_tokens_(metrics.AddCounter("conclave_worker_prompt_tokens_total")),
      prompt_computed_(metrics.AddCounter("conclave_worker_prompt_tokens_computed_total")),
      prefix_hits_(metrics.AddCounter("conclave_worker_prefix_hit_tokens_total")),
      sampled_(metrics.AddCounter("conclave_worker_tokens_sampled_total")),
      forced_(metrics.AddCounter("conclave_worker_tokens_forced_total")),
      preemptions_(metrics.AddCounter("conclave_worker_preemptions_total")),
      evictions_(metrics.AddCounter("conclave_worker_evicted_blocks_total")),
      overrun_(metrics.AddCounter("conclave_worker_overrun_tokens_total")),
      probes_answered_(metrics.AddCounter("conclave_worker_probes_total", {{"end", "answered"}})),
      probes_dropped_(metrics.AddCounter("conclave_worker_probes_total", {{"end", "dropped"}})),
      probe_tokens_(metrics.AddCounter("conclave_worker_probe_tokens_total")) {
  metrics.SetAliasLabels({{"model_name", group.model}, {"engine", "0"}});
  metrics
      .AddGauge("conclave_worker_info", {{"model", group.model},
                                         {"fingerprint", group.fingerprint},
                                         {"ranks", std::to_string(group.ranks)}})
      .Set(1);
  metrics.AddGauge("conclave_worker_epoch").Set(static_cast<double>(group.epoch));
  metrics.AddCounter("conclave_worker_losses_total").Add(static_cast<double>(group.losses));
}

void EngineMetrics::Update(const EngineLoad& load, int families, bool ready) {
  agents_running_.Set(load.agents_running - load.agents_waiting);
  agents_waiting_.Set(load.agents_waiting);
  agents_max_.Set(load.agents_max);
  families_.Set(families);
  queued_prompt_tokens_.Set(static_cast<double>(load.queued_prompt_tokens));
  ready_.Set(ready ? 1 : 0);
  if (load.blocks_total > 0) {
    kv_usage_.Set(1.0 - static_cast<double>(load.blocks_free) / load.blocks_total);
  }
  if (load.blocks_total > 0 && last_.blocks_total == 0) {
    metrics_
        .AddGauge("conclave_worker_cache_info",
                  {{"block_size", std::to_string(kBlockTokens)},
                   {"num_gpu_blocks", std::to_string(load.blocks_total)}})
        .Set(1);
  }
  const auto add = [](Counter& counter, int64_t before, int64_t now) {
    counter.Add(static_cast<double>(now - before));
  };
  add(steps_, last_.steps, load.steps);
  add(prompt_tokens_, last_.prompt_tokens, load.prompt_tokens);
  add(prompt_computed_, last_.prompt_tokens_computed, load.prompt_tokens_computed);
  add(prefix_hits_, last_.prefix_hit_tokens, load.prefix_hit_tokens);
  add(sampled_, last_.tokens_sampled, load.tokens_sampled);
  add(forced_, last_.tokens_forced, load.tokens_forced);
  add(preemptions_, last_.preemptions, load.preemptions);
  add(evictions_, last_.evictions, load.evictions);
  add(overrun_, last_.overrun, load.overrun);
  add(probes_answered_, last_.probes_answered, load.probes_answered);
  add(probes_dropped_, last_.probes_dropped, load.probes_dropped);
  add(probe_tokens_, last_.probe_tokens, load.probe_tokens);
  last_ = load;
}

}  // namespace conclave::worker
