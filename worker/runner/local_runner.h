#pragma once

#include <absl/status/statusor.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "worker/backend/device.h"
#include "worker/collective/shared_collective.h"
#include "worker/runner/model_runner.h"
#include "worker/step.h"

namespace conclave::worker {

struct LocalRunnerOptions : RunnerOptions {
  int tp = 1;
  std::string instruction_set = "auto";
  // Another device than the CPU for each rank. Several ranks need one whose memory the host sees.
  std::function<absl::StatusOr<std::unique_ptr<Device>>(int rank)> make_device;
};

// A whole group in one process: ranks as threads, for tests, measuring and embedding. Called by one
// thread.
class LocalRunner : public StepRunner {
 public:
  static absl::StatusOr<std::unique_ptr<LocalRunner>> Create(const LocalRunnerOptions& options);
  ~LocalRunner() override;

  const GroupShape& shape() const override;
  absl::Status Submit(StepPlan plan) override;
  // Runs the oldest plan on all ranks. kDataLoss when they disagree.
  absl::StatusOr<StepResult> Await() override;

  ModelRunner& rank(int rank) { return *ranks_[rank].runner; }

 private:
  struct Rank {
    std::unique_ptr<Device> device;
    std::unique_ptr<Collective> collective;
    std::unique_ptr<ModelRunner> runner;
  };
  explicit LocalRunner(int tp) : group_(tp) {}

  ThreadGroup group_;
  std::vector<Rank> ranks_;
  std::deque<StepPlan> plans_;
};

}  // namespace conclave::worker
