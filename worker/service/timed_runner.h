#pragma once

#include <absl/time/time.h>

#include <deque>

#include "common/clock.h"
#include "common/metrics.h"
#include "worker/step.h"

namespace conclave::worker {

// A StepRunner that measures how long each plan was in flight. `runner`, `clock` and `metrics` must
// outlive it.
class TimedRunner final : public StepRunner {
 public:
  TimedRunner(StepRunner& runner, Clock& clock, Metrics& metrics);

  const GroupShape& shape() const override { return runner_.shape(); }
  absl::Status Submit(StepPlan plan) override;
  absl::StatusOr<StepResult> Await() override;

 private:
  StepRunner& runner_;
  Clock& clock_;
  Histogram seconds_, rows_;
  std::deque<absl::Time> submitted_;  // Of the plans in flight, oldest first.
};

}  // namespace conclave::worker
