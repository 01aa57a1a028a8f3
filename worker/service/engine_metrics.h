#pragma once

#include "common/metrics.h"
#include "worker/engine/engine.h"

namespace conclave::worker {

// The engine's counters as Prometheus reads them: conclave_worker_*. One thread calls Update.
class EngineMetrics {
 public:
  // `epoch`: of this group; every epoch after the first began with a loss.
  EngineMetrics(Metrics& metrics, int64_t epoch);

  void Update(const EngineLoad& load, int families, bool ready);

 private:
  Gauge agents_running_, agents_max_, families_, queued_prompt_tokens_, kv_usage_, ready_;
  Counter steps_, prompt_computed_, prefix_hits_, sampled_, preemptions_, evictions_, overrun_;
  EngineLoad last_;  // Counters have no Set.
};

}  // namespace conclave::worker
