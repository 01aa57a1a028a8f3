#pragma once

#include <string>

#include "common/metrics.h"
#include "worker/engine/engine.h"

namespace conclave::worker {

// Whose numbers they are.
struct MeasuredGroup {
  std::string model, fingerprint;
  int ranks = 1;
  int64_t epoch = 1;
  int64_t losses = 0;  // An epoch may also have ended because a host drained.
};

// The engine's counters as Prometheus reads them: conclave_worker_*, and the names under which
// vLLM's users and Kubernetes' inference gateways look for them. One thread calls Update.
class EngineMetrics {
 public:
  EngineMetrics(Metrics& metrics, const MeasuredGroup& group);

  void Update(const EngineLoad& load, int families, bool ready);

 private:
  Metrics& metrics_;
  Gauge agents_running_, agents_waiting_, agents_max_, families_, queued_prompt_tokens_, kv_usage_,
      ready_;
  Counter steps_, prompt_tokens_, prompt_computed_, prefix_hits_, sampled_, forced_, preemptions_,
      evictions_, overrun_, probes_answered_, probes_dropped_, probe_tokens_;
  EngineLoad last_;  // Counters have no Set.
};

}  // namespace conclave::worker
