#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <thread>
#include <vector>

#include "worker/backend/device.h"
#include "worker/collective/shared_collective.h"
#include "worker/group/group_runner.h"
#include "worker/group/thread_channel.h"
#include "worker/runner/local_runner.h"

namespace conclave::worker {

// A group as the worker runs it (encoded plans, the leader's rank on a thread of its own, hashes
// that must agree), with threads in place of processes. Called by one thread.
class ThreadRanks : public StepRunner {
 public:
  // `threads`: of each rank's device. `joined`: what joins each rank to the others, in order of
  // rank; empty: memory that they share.
  static absl::StatusOr<std::unique_ptr<ThreadRanks>> Create(
      const LocalRunnerOptions& options, int threads = 1,
      std::vector<std::unique_ptr<Collective>> joined = {});
  ~ThreadRanks() override;

  const GroupShape& shape() const override { return runner_->shape(); }
  absl::Status Submit(StepPlan plan) override { return runner_->Submit(std::move(plan)); }
  absl::StatusOr<StepResult> Await() override { return runner_->Await(); }

 private:
  // One that fails wakes the others.
  class Rank : public RankSteps {
   public:
    bool MayBegin(const StepPlan& plan) const override { return runner->MayBegin(plan); }
    absl::Status Begin(const StepPlan& plan) override;
    bool IsReady() override { return runner->IsReady(); }
    absl::StatusOr<StepResult> Finish() override;

    ThreadGroup* group = nullptr;
    std::unique_ptr<Device> device;
    std::unique_ptr<Collective> collective;
    std::unique_ptr<ModelRunner> runner;
  };
  explicit ThreadRanks(int tp);

  ThreadGroup group_;
  ThreadChannel channel_;
  std::vector<RankCell> cells_;
  std::vector<Rank> ranks_;
  std::unique_ptr<GroupRunner> runner_;
  std::vector<std::thread> followers_;
};

}  // namespace conclave::worker
