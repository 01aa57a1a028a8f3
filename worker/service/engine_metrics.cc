#include "worker/service/engine_metrics.h"

namespace conclave::worker {

EngineMetrics::EngineMetrics(Metrics& metrics, int64_t epoch)
    : agents_running_(metrics.AddGauge("conclave_worker_agents_running", "Agents that run.")),
      agents_max_(metrics.AddGauge("conclave_worker_agents_max", "Agents that can run at a time.")),
      families_(metrics.AddGauge("conclave_worker_families", "Families that are open.")),
      queued_prompt_tokens_(metrics.AddGauge("conclave_worker_queued_prompt_tokens",
                                             "Prompt tokens accepted and not yet computed.")),
      kv_usage_(metrics.AddGauge("conclave_worker_kv_usage_ratio",
                                 "Share of the KV blocks that running agents hold.")),
      ready_(metrics.AddGauge("conclave_worker_ready", "1 while families are taken.")),
      steps_(metrics.AddCounter("conclave_worker_steps_total", "Steps of the group.")),
      prompt_computed_(metrics.AddCounter("conclave_worker_prompt_tokens_computed_total",
                                          "Prompt tokens that were run through the model.")),
      prefix_hits_(metrics.AddCounter("conclave_worker_prefix_hit_tokens_total",
                                      "Tokens whose KV was found in the cache.")),
      sampled_(metrics.AddCounter("conclave_worker_tokens_sampled_total", "Tokens drawn.")),
      preemptions_(metrics.AddCounter("conclave_worker_preemptions_total",
                                      "Agents that had to give their blocks away.")),
      evictions_(metrics.AddCounter("conclave_worker_evicted_blocks_total",
                                    "KV blocks of the prefix cache given up for others.")),
      overrun_(metrics.AddCounter(
          "conclave_worker_overrun_tokens_total",
          "Tokens drawn and dropped: what came before them ended the agent, or forced others.")) {
  metrics.AddGauge("conclave_worker_epoch", "Counts up each time the group is formed anew.")
      .Set(static_cast<double>(epoch));
  metrics.AddCounter("conclave_worker_losses_total", "Times that the group was lost.")
      .Add(static_cast<double>(epoch - 1));
}

void EngineMetrics::Update(const EngineLoad& load, int families, bool ready) {
  agents_running_.Set(load.agents_running);
  agents_max_.Set(load.agents_max);
  families_.Set(families);
  queued_prompt_tokens_.Set(static_cast<double>(load.queued_prompt_tokens));
  ready_.Set(ready ? 1 : 0);
  if (load.blocks_total > 0) {
    kv_usage_.Set(1.0 - static_cast<double>(load.blocks_free) / load.blocks_total);
  }
  const auto add = [](Counter& counter, int64_t before, int64_t now) {
    counter.Add(static_cast<double>(now - before));
  };
  add(steps_, last_.steps, load.steps);
  add(prompt_computed_, last_.prompt_tokens_computed, load.prompt_tokens_computed);
  add(prefix_hits_, last_.prefix_hit_tokens, load.prefix_hit_tokens);
  add(sampled_, last_.tokens_sampled, load.tokens_sampled);
  add(preemptions_, last_.preemptions, load.preemptions);
  add(evictions_, last_.evictions, load.evictions);
  add(overrun_, last_.overrun, load.overrun);
  last_ = load;
}

}  // namespace conclave::worker
