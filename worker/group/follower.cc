#include "worker/group/follower.h"

#include <string>

#include "common/status.h"
#include "worker/group/agreement.h"
#include "worker/group/plan_codec.h"

namespace conclave::worker {

absl::Status Follow(FollowerChannel& channel, RankSteps& steps, RankCell& cell) {
  cell.ready.store(1, std::memory_order_release);
  for (uint64_t number = 1;; ++number) {
    ASSIGN_OR_RETURN(const std::string message, channel.Receive());
    ASSIGN_OR_RETURN(const TimedPlan timed, DecodePlan(message));
    if (timed.plan.number != number) {
      return DataLoss("plan {} arrived in place of {}", timed.plan.number, number);
    }
    BeginStep(cell, number, timed.patience);
    const absl::Status begun = steps.Begin(timed.plan);
    const absl::StatusOr<StepResult> result = begun.ok() ? steps.Finish() : begun;
    if (!result.ok()) return Annotate(result.status(), fmt::format("step {}", number));
    const uint64_t hash = AgreementHash(timed.plan, *result);
    EndStep(cell, number, hash);
    channel.Report({.number = number, .hash = hash});
  }
}

}  // namespace conclave::worker
