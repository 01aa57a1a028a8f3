#pragma once

#include <absl/status/statusor.h>

#include <functional>

#include "worker/step.h"

namespace conclave::worker {

// A whole step: what one rank, or all of a group, makes of one plan. Called on one thread, in the
// order of the plans' numbers. A seam, so that flights are replayed without a model.
using RankStep = std::function<absl::StatusOr<StepResult>(const StepPlan&)>;

}  // namespace conclave::worker
