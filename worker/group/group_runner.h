#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/synchronization/mutex.h>

#include <deque>
#include <thread>

#include "worker/group/control_channel.h"
#include "worker/group/plan_codec.h"
#include "worker/group/rank_cell.h"
#include "worker/group/rank_step.h"
#include "worker/group/step_cost.h"
#include "worker/step.h"

namespace conclave::worker {

// The leader's side of a group, and the StepRunner that its engine sees: sends each plan to the
// followers, runs the leader's own rank on a thread of its own (so that Await can end in time), and
// gives a result out only when every rank reports the same hash. One rank: the same without
// followers.
//
// Submit and Await are called by one thread. After an error the group is lost and every call
// returns it: the process exits with _exit, for a step that hangs never lets the destructor end.
class GroupRunner : public StepRunner {
 public:
  // `step` is called on the rank's own thread. `followers` and `cell` (the leader's) must outlive
  // this. Marks the cell ready.
  GroupRunner(GroupShape shape, RankStep step, LeaderChannel& followers, RankCell& cell,
              const StepCost& cost);
  // Waits for the plans that the own rank has begun; closes the channel.
  ~GroupRunner() override;

  const GroupShape& shape() const override { return shape_; }
  // kFailedPrecondition: two plans are in flight, or the number is not the next one.
  absl::Status Submit(StepPlan plan) override;
  // kDeadlineExceeded: a rank was late. kDataLoss: ranks disagree. kFailedPrecondition: no plan is
  // in flight. Otherwise the own rank's error.
  absl::StatusOr<StepResult> Await() override;

 private:
  struct Done {
    absl::StatusOr<StepResult> result;
    uint64_t hash = 0;
  };
  struct InFlight {
    uint64_t number = 0;
    absl::Duration patience;
  };

  void RunRank();
  absl::StatusOr<StepResult> AwaitStep(const InFlight& step);
  absl::StatusOr<Done> AwaitOwnRank(const InFlight& step);
  absl::Status Lost(const absl::Status& why);

  const GroupShape shape_;
  const RankStep step_;
  const StepCost cost_;
  LeaderChannel& followers_;
  RankCell& cell_;

  // The caller's.
  uint64_t last_number_ = 0;
  std::deque<InFlight> in_flight_;
  absl::Status lost_;

  absl::Mutex mutex_;
  std::deque<TimedPlan> plans_ ABSL_GUARDED_BY(mutex_);
  std::deque<Done> done_ ABSL_GUARDED_BY(mutex_);
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread rank_;  // Last: it uses all of the above.
};

}  // namespace conclave::worker
