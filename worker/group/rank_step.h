#pragma once

#include <absl/status/statusor.h>

#include <functional>

#include "worker/step.h"

namespace conclave::worker {

// One rank's share of one plan: what the model's runner does with it. Called on one thread, in the
// order of the plans' numbers. Any error ends the group. A seam, so that the group is tested
// without a model.
using RankStep = std::function<absl::StatusOr<StepResult>(const StepPlan&)>;

}  // namespace conclave::worker
