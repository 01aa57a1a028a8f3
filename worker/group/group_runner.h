#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/synchronization/mutex.h>

#include <atomic>
#include <deque>
#include <optional>
#include <thread>

#include "worker/group/control_channel.h"
#include "worker/group/plan_codec.h"
#include "worker/group/rank_cell.h"
#include "worker/group/step_cost.h"
#include "worker/runner/rank_steps.h"
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
  // `steps` is called on the rank's own thread, and with `followers` and `cell` (the leader's) must
  // outlive this. Marks the cell ready.
  GroupRunner(GroupShape shape, RankSteps& steps, LeaderChannel& followers, RankCell& cell,
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

  // A plan that the own rank has begun, or failed to begin.
  struct Begun {
    TimedPlan timed;
    absl::Status status;
  };

  // The own rank's thread. While the device runs one step and no plan is here, it keeps its core
  // busy, as one that waits for the device alone does: it looks for whichever comes first.
  void RunRank();
  std::optional<TimedPlan> NextToBegin();
  void BeginNext(TimedPlan timed);
  bool FinishOldest();
  absl::StatusOr<StepResult> AwaitStep(const InFlight& step);
  absl::StatusOr<Done> AwaitOwnRank(const InFlight& step);
  absl::Status Lost(const absl::Status& why);

  const GroupShape shape_;
  RankSteps& steps_;
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
  // A plan is here, or the end: to be looked at without the mutex.
  std::atomic<bool> called_{false};

  std::deque<Begun> begun_;  // The rank's thread's.

  std::thread rank_;  // Last: it uses all of the above.
};

}  // namespace conclave::worker
