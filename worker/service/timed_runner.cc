#include "worker/service/timed_runner.h"

#include <utility>

namespace conclave::worker {

TimedRunner::TimedRunner(StepRunner& runner, Clock& clock, Metrics& metrics)
    : runner_(runner),
      clock_(clock),
      seconds_(metrics.AddHistogram("conclave_worker_step_seconds")),
      rows_(metrics.AddHistogram("conclave_worker_step_rows")) {}

absl::Status TimedRunner::Submit(StepPlan plan) {
  rows_.Observe(static_cast<double>(plan.rows.size()));
  submitted_.push_back(clock_.Now());
  return runner_.Submit(std::move(plan));
}

absl::StatusOr<StepResult> TimedRunner::Await() {
  absl::StatusOr<StepResult> result = runner_.Await();
  if (!submitted_.empty()) {
    seconds_.Observe(absl::ToDoubleSeconds(clock_.Now() - submitted_.front()));
    submitted_.pop_front();
  }
  return result;
}

}  // namespace conclave::worker
