#include "tests/fakes/thread_ranks.h"

#include <utility>

#include "common/status.h"
#include "worker/backend/cpu/cpu_device.h"
#include "worker/group/follower.h"

namespace conclave::worker {

ThreadRanks::ThreadRanks(int tp)
    : group_(tp), channel_(tp - 1, 4), cells_(static_cast<size_t>(tp)), ranks_(cells_.size()) {}

absl::StatusOr<std::unique_ptr<ThreadRanks>> ThreadRanks::Create(
    const LocalRunnerOptions& options, int threads,
    std::vector<std::unique_ptr<Collective>> joined) {
  if (options.tp < 1) return InvalidArgument("{} ranks", options.tp);
  auto ranks = std::unique_ptr<ThreadRanks>(new ThreadRanks(options.tp));
  for (int r = 0; r < options.tp; ++r) {
    Rank& rank = ranks->ranks_[r];
    rank.group = &ranks->group_;
    ASSIGN_OR_RETURN(rank.device, options.make_device
                                      ? options.make_device(r)
                                      : MakeCpuDevice(options.instruction_set, threads));
    rank.collective = joined.empty() ? ranks->group_.Rank(r) : std::move(joined.at(r));
    ASSIGN_OR_RETURN(rank.runner, ModelRunner::Create(options, *rank.device, *rank.collective));
  }
  const StepCost calm{.margin = absl::Seconds(60)};
  ranks->runner_ = std::make_unique<GroupRunner>(ranks->ranks_[0].runner->shape(), ranks->ranks_[0],
                                                 ranks->channel_.leader(), ranks->cells_[0], calm);
  for (int r = 1; r < options.tp; ++r) {
    ranks->followers_.emplace_back([all = ranks.get(), r] {
      (void)Follow(all->channel_.follower(r - 1), all->ranks_[r], all->cells_[r]);
    });
  }
  return ranks;
}

ThreadRanks::~ThreadRanks() {
  runner_.reset();
  for (std::thread& each : followers_) each.join();
}

absl::Status ThreadRanks::Rank::Begin(const StepPlan& plan) {
  absl::Status begun = runner->Begin(plan);
  if (!begun.ok()) group->Abort();
  return begun;
}

absl::StatusOr<StepResult> ThreadRanks::Rank::Finish() {
  absl::StatusOr<StepResult> result = runner->Finish();
  if (!result.ok()) group->Abort();
  return result;
}

}  // namespace conclave::worker
