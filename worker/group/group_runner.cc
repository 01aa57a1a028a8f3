#include "worker/group/group_runner.h"

#include <algorithm>
#include <string>
#include <utility>

#include "common/status.h"
#include "worker/group/agreement.h"
#include "worker/group/patience.h"

namespace conclave::worker {
namespace {

constexpr size_t kMaxInFlight = 2;
constexpr absl::Duration kMaxPatience = absl::Hours(24);  // What a TimedPlan can say.
constexpr absl::Duration kLeastForMarks = absl::Seconds(1);

}  // namespace

GroupRunner::GroupRunner(GroupShape shape, RankSteps& steps, LeaderChannel& followers,
                         RankCell& cell, const StepCost& cost)
    : shape_(std::move(shape)),
      steps_(steps),
      cost_(cost),
      followers_(followers),
      cell_(cell),
      rank_([this] { RunRank(); }) {
  cell_.ready.store(1, std::memory_order_release);
}

GroupRunner::~GroupRunner() {
  followers_.Close();
  {
    absl::MutexLock lock(&mutex_);
    ending_ = true;
    called_.store(true, std::memory_order_release);
  }
  rank_.join();
}

absl::Status GroupRunner::Lost(const absl::Status& why) {
  if (lost_.ok()) lost_ = why;
  return lost_;
}

absl::Status GroupRunner::Submit(StepPlan plan) {
  RETURN_IF_ERROR(lost_);
  if (in_flight_.size() >= kMaxInFlight) {
    return FailedPrecondition("step {} with {} steps in flight", plan.number, in_flight_.size());
  }
  if (plan.number != last_number_ + 1) {
    return FailedPrecondition("step {} follows step {}", plan.number, last_number_);
  }
  TimedPlan timed{.plan = std::move(plan), .patience = absl::ZeroDuration()};
  timed.patience = std::min(cost_.PatienceFor(timed.plan), kMaxPatience);
  const uint64_t number = timed.plan.number;

  // Followers that are behind are so for the sake of the steps before: they have that long.
  absl::Duration patience = cost_.margin;
  for (const InFlight& step : in_flight_) patience += step.patience;
  const absl::Status sent = followers_.Send(number, EncodePlan(timed), patience);
  if (!sent.ok()) return Lost(sent);

  in_flight_.push_back({.number = number, .patience = timed.patience});
  last_number_ = number;
  absl::MutexLock lock(&mutex_);
  plans_.push_back(std::move(timed));
  called_.store(true, std::memory_order_release);
  return absl::OkStatus();
}

absl::StatusOr<StepResult> GroupRunner::Await() {
  RETURN_IF_ERROR(lost_);
  if (in_flight_.empty()) return FailedPrecondition("no step is in flight");
  const InFlight step = in_flight_.front();
  in_flight_.pop_front();
  absl::StatusOr<StepResult> result = AwaitStep(step);
  if (!result.ok()) return Lost(Annotate(result.status(), fmt::format("step {}", step.number)));
  return result;
}

// The own rank and the followers share one deadline: what the own rank has used is gone.
absl::StatusOr<StepResult> GroupRunner::AwaitStep(const InFlight& step) {
  const int64_t before = MonotonicNanos();
  ASSIGN_OR_RETURN(Done own, AwaitOwnRank(step));
  RETURN_IF_ERROR(own.result.status());
  for (int follower = 0; follower < followers_.num_followers(); ++follower) {
    const absl::Duration used = absl::Nanoseconds(MonotonicNanos() - before);
    // At least a second: after a pause of the machine a mark may be just about to come.
    const absl::Duration left =
        std::max(step.patience - used, std::min(step.patience, kLeastForMarks));
    absl::StatusOr<DoneMark> mark = followers_.AwaitDone(follower, step.number, left);
    if (!mark.ok()) return Annotate(mark.status(), fmt::format("rank {}", follower + 1));
    if (mark->hash != own.hash) {
      return DataLoss("rank {} reports hash {:016x}, the leader {:016x}: nothing of it leaves",
                      follower + 1, mark->hash, own.hash);
    }
  }
  return std::move(own.result);
}

absl::StatusOr<GroupRunner::Done> GroupRunner::AwaitOwnRank(const InFlight& step) {
  auto any = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return !done_.empty(); };
  Patience left(step.patience);
  absl::MutexLock lock(&mutex_);
  while (done_.empty()) {
    if (left.over()) {
      return DeadlineExceeded("rank 0 is late; the deadline was {}",
                              absl::FormatDuration(step.patience));
    }
    const absl::Duration turn = left.Turn();
    const int64_t before = MonotonicNanos();
    mutex_.AwaitWithTimeout(absl::Condition(&any), turn);
    left.Spend(turn, absl::Nanoseconds(MonotonicNanos() - before));
  }
  Done done = std::move(done_.front());
  done_.pop_front();
  return done;
}

// The plan that is begun now; none when the oldest step is to be finished first, or all is over.
std::optional<TimedPlan> GroupRunner::NextToBegin() {
  if (begun_.size() >= kMaxInFlight) return std::nullopt;
  while (!begun_.empty() && !called_.load(std::memory_order_acquire)) {
    if (steps_.IsReady()) return std::nullopt;
    std::this_thread::yield();
  }
  auto wanted = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return ending_ || !plans_.empty(); };
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(&wanted));
  if (ending_ || (!begun_.empty() && !steps_.MayBegin(plans_.front().plan))) return std::nullopt;
  TimedPlan timed = std::move(plans_.front());
  plans_.pop_front();
  called_.store(!plans_.empty(), std::memory_order_release);
  return timed;
}

// A step's deadline runs from when nothing is before it any more.
void GroupRunner::BeginNext(TimedPlan timed) {
  if (begun_.empty()) BeginStep(cell_, timed.plan.number, timed.patience);
  absl::Status status = steps_.Begin(timed.plan);
  begun_.push_back({.timed = std::move(timed), .status = std::move(status)});
}

// False when it failed.
bool GroupRunner::FinishOldest() {
  Begun step = std::move(begun_.front());
  begun_.pop_front();
  const uint64_t number = step.timed.plan.number;
  Done done{.result = step.status.ok() ? steps_.Finish() : std::move(step.status)};
  if (done.result.ok() && done.result->number != number) {
    done.result = Internal("the rank answered step {} with step {}", number, done.result->number);
  }
  if (done.result.ok()) {
    done.hash = AgreementHash(step.timed.plan, *done.result);
    EndStep(cell_, number, done.hash);
    if (!begun_.empty()) {
      BeginStep(cell_, begun_.front().timed.plan.number, begun_.front().timed.patience);
    }
  }
  const bool ok = done.result.ok();
  absl::MutexLock lock(&mutex_);
  done_.push_back(std::move(done));
  return ok;
}

void GroupRunner::RunRank() {
  while (true) {
    const bool failed = !begun_.empty() && !begun_.back().status.ok();
    std::optional<TimedPlan> next = failed ? std::nullopt : NextToBegin();
    if (next.has_value()) {
      BeginNext(*std::move(next));
    } else if (begun_.empty() || !FinishOldest()) {
      return;  // It ends, or the group is lost: its later plans are not run.
    }
  }
}

}  // namespace conclave::worker
