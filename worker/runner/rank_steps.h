#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include "worker/step.h"

namespace conclave::worker {

// One rank's share of plans, each in two halves, so that a device need not wait for the host
// between two steps: the next one may be begun before the tokens of this one are known. At most two
// steps are begun and not finished. Called on one thread, in the order of the plans' numbers. Any
// error ends the group. A seam, so that the group is tested without a model.
class RankSteps {
 public:
  virtual ~RankSteps() = default;
  // Whether `plan`, the next one, may be begun although one step is not finished. The answer
  // changes what is waited for, and no byte of a result.
  virtual bool MayBegin(const StepPlan& plan) const = 0;
  // Gives the device its work. REQUIRES: no step is begun, or one is and MayBegin(plan).
  virtual absl::Status Begin(const StepPlan& plan) = 0;
  // Whether Finish() would not wait for the device. REQUIRES: a step is begun.
  virtual bool IsReady() = 0;
  // Waits for the oldest step that was begun. After an error nothing else is called; after one of
  // Begin() only what was begun before is finished.
  virtual absl::StatusOr<StepResult> Finish() = 0;
};

}  // namespace conclave::worker
