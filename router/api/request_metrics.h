#pragma once

#include <absl/status/status.h>

#include "common/metrics.h"
#include "router/contemplation/client_event.h"

namespace conclave::router {

const char* NameOf(Mode mode);

// What is counted of requests, whoever their client is. Thread-safe.
class RequestMetrics {
 public:
  explicit RequestMetrics(Metrics& metrics);

  // Each request, once: refused, or at its end. `mode` is NameOf's, or "unknown".
  void Ended(const char* mode, const absl::Status& status);
  void Completed(const Receipt& receipt);
  // `how`: "reattached" or "run_again".
  void Resumed(const char* how);
  void ResumeRefused(const absl::Status& why);
  void SetAdmission(int running, int queued);

 private:
  Metrics& metrics_;
  Gauge running_, queued_;
  Histogram duration_, first_answer_;
};

}  // namespace conclave::router
