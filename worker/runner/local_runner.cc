#include "worker/runner/local_runner.h"

#include <optional>
#include <thread>
#include <utility>

#include "common/status.h"
#include "worker/backend/cpu/cpu_device.h"

namespace conclave::worker {
namespace {

// Calls work(rank) on `count` threads at once and waits for all.
template <typename Work>
void OnEveryRank(int count, const Work& work) {
  std::vector<std::thread> threads;
  for (int r = 1; r < count; ++r) threads.emplace_back([&work, r] { work(r); });
  work(0);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

absl::StatusOr<std::unique_ptr<LocalRunner>> LocalRunner::Create(
    const LocalRunnerOptions& options) {
  if (options.tp < 1) return InvalidArgument("{} ranks", options.tp);
  auto group = std::unique_ptr<LocalRunner>(new LocalRunner(options.tp));
  group->ranks_.resize(options.tp);
  for (int r = 0; r < options.tp; ++r) {
    Rank& rank = group->ranks_[r];
    ASSIGN_OR_RETURN(rank.device, options.make_device ? options.make_device(r)
                                                      : MakeCpuDevice(options.instruction_set));
    rank.collective = group->group_.Rank(r);
    ASSIGN_OR_RETURN(rank.runner, ModelRunner::Create(options, *rank.device, *rank.collective));
  }
  return group;
}

LocalRunner::~LocalRunner() = default;

const GroupShape& LocalRunner::shape() const { return ranks_[0].runner->shape(); }

absl::Status LocalRunner::Submit(StepPlan plan) {
  if (plans_.size() >= 2) return FailedPrecondition("two plans are in flight");
  plans_.push_back(std::move(plan));
  return absl::OkStatus();
}

absl::StatusOr<StepResult> LocalRunner::Await() {
  if (plans_.empty()) return FailedPrecondition("no plan is in flight");
  const StepPlan plan = std::move(plans_.front());
  plans_.pop_front();
  std::vector<std::optional<absl::StatusOr<StepResult>>> results(ranks_.size());
  OnEveryRank(static_cast<int>(ranks_.size()), [&](int r) {
    results[r] = ranks_[r].runner->Run(plan);
    if (!results[r]->ok()) group_.Abort();
  });
  for (const auto& result : results) {
    if (!result->ok() && result->status().code() != absl::StatusCode::kAborted)
      return result->status();
  }
  for (const auto& result : results) {
    RETURN_IF_ERROR(result->status());
    if (StepHash(plan, **result) != StepHash(plan, **results[0])) {
      return DataLoss("ranks disagree on the tokens of step {}", plan.number);
    }
  }
  return *std::move(*results[0]);
}

}  // namespace conclave::worker
