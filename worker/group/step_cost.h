#pragma once

#include <absl/time/time.h>

#include "worker/step.h"

namespace conclave::worker {

// What a step is expected to take, from its size; and how long is waited for it. The defaults are
// generous for a CPU without an optimising compiler: they decide only when a hang is noticed.
struct StepCost {
  absl::Duration step = absl::Milliseconds(10);
  absl::Duration row = absl::Milliseconds(10);      // Each row.
  absl::Duration attended = absl::Microseconds(2);  // Each earlier token that a row attends to.
  absl::Duration copied = absl::Microseconds(20);   // Each token of a block copy.
  absl::Duration margin = absl::Seconds(5);

  absl::Duration Estimate(const StepPlan& plan) const {
    double attended_tokens = 0, copied_tokens = 0;
    for (const Row& each : plan.rows) attended_tokens += each.position;
    for (const BlockCopy& each : plan.copies) copied_tokens += each.tokens;
    return step + static_cast<double>(plan.rows.size()) * row + attended_tokens * attended +
           copied_tokens * copied;
  }

  // The step's deadline, counted from its beginning.
  absl::Duration PatienceFor(const StepPlan& plan) const { return margin + 10 * Estimate(plan); }
};

}  // namespace conclave::worker
