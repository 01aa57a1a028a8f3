#pragma once

#include <deque>
#include <utility>

#include "worker/group/rank_step.h"
#include "worker/runner/rank_steps.h"

namespace conclave::worker {

// Steps that a function does whole, in their first half.
class WholeSteps : public RankSteps {
 public:
  explicit WholeSteps(RankStep step) : step_(std::move(step)) {}

  bool MayBegin(const StepPlan&) const override { return results_.empty(); }
  absl::Status Begin(const StepPlan& plan) override {
    results_.push_back(step_(plan));
    return absl::OkStatus();
  }
  bool IsReady() override { return true; }
  absl::StatusOr<StepResult> Finish() override {
    absl::StatusOr<StepResult> result = std::move(results_.front());
    results_.pop_front();
    return result;
  }

 private:
  const RankStep step_;
  std::deque<absl::StatusOr<StepResult>> results_;
};

}  // namespace conclave::worker
