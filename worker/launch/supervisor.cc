#include "worker/launch/supervisor.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "worker/launch/flight_file.h"
#include "worker/launch/rank_flags.h"

namespace conclave::worker {

Supervisor::Supervisor(LauncherOptions options) : options_(std::move(options)) {
  CHECK(options_.tick > absl::ZeroDuration());
}

Supervisor::~Supervisor() { KillRanks(); }

absl::Status Supervisor::Start() {
  CHECK(epoch_ == 0);
  return Form();
}

std::vector<int> Supervisor::pids() const {
  std::vector<int> pids;
  for (const Process& rank : ranks_) pids.push_back(rank.pid());
  return pids;
}

bool Supervisor::ready() const {
  if (!memory_.has_value() || ranks_.empty()) return false;
  for (int rank = 0; rank < options_.tp; ++rank) {
    if (memory_->cell(rank).ready.load(std::memory_order_acquire) == 0) return false;
  }
  return true;
}

// New memory, new epoch, new processes.
absl::Status Supervisor::Form() {
  ++epoch_;
  ASSIGN_OR_RETURN(memory_, GroupMemory::Create({.tp = options_.tp,
                                                 .epoch = epoch_,
                                                 .ring_bytes = options_.ring_bytes,
                                                 .collective_bytes = options_.collective_bytes,
                                                 .last_loss = last_loss_}));
  judge_.emplace(options_.tp, options_.tick, options_.judge);
  said_ready_ = false;
  std::string pids;
  for (int rank = 0; rank < options_.tp; ++rank) {
    const RankFlags flags{.rank = rank,
                          .tp = options_.tp,
                          .memory_fd = Process::kInheritedFd,
                          .epoch = epoch_,
                          .parent = getpid()};
    std::vector<std::string> arguments = flags.ToArguments();
    arguments.insert(arguments.end(), options_.rank_arguments.begin(),
                     options_.rank_arguments.end());
    absl::StatusOr<Process> process = Process::Spawn(options_.program, arguments, memory_->fd());
    if (!process.ok()) {
      KillRanks();
      return process.status();
    }
    pids += fmt::format("{}{}", rank == 0 ? "" : ", ", process->pid());
    ranks_.push_back(*std::move(process));
  }
  Log(fmt::format("epoch {} begins with {} ranks (pids {})", epoch_, options_.tp, pids));
  if (options_.on_epoch) options_.on_epoch(epoch_);
  return absl::OkStatus();
}

void Supervisor::Drain() {
  if (drain_until_.has_value()) {
    drain_now_ = true;
    return;
  }
  drain_until_ = now_ + Ticks(options_.drain_timeout);
  if (ranks_.empty()) return;
  Log(fmt::format("epoch {} drains for at most {}", epoch_,
                  absl::FormatDuration(options_.drain_timeout)));
  ranks_[0].Signal(SIGTERM);
}

std::optional<absl::Status> Supervisor::Turn(bool ticked) {
  if (ticked) ++now_;
  if (!ranks_.empty()) {
    memory_->header().launcher_beat.fetch_add(1, std::memory_order_release);
    return drain_until_.has_value() ? WatchDrain(ticked) : Watch(ticked);
  }
  if (drain_until_.has_value()) return absl::OkStatus();
  if (now_ < form_at_) return std::nullopt;
  const absl::Status formed = Form();
  if (formed.ok()) return std::nullopt;
  return OnLoss({.rank = 0,
                 .reason = fmt::format("epoch {} could not begin: {}", epoch_, MessageOf(formed))});
}

std::vector<RankSight> Supervisor::Look() {
  std::vector<RankSight> sights;
  for (int rank = 0; rank < options_.tp; ++rank) {
    Process& process = ranks_[static_cast<size_t>(rank)];
    const RankCell& cell = memory_->cell(rank);
    RankSight sight = LookAt(cell);
    sight.pid = process.pid();
    sight.exit = process.Exit();
    sight.stopped = process.stopped();
    if (sight.exit.has_value()) sight.last_words = TextOf(cell.last_words);
    sights.push_back(std::move(sight));
  }
  return sights;
}

std::optional<absl::Status> Supervisor::Watch(bool ticked) {
  if (!said_ready_ && ready()) {
    said_ready_ = true;
    Log(fmt::format("epoch {} is ready", epoch_));
  }
  const std::vector<RankSight> ranks = Look();
  const std::optional<Loss> loss = ticked ? judge_->Turn(ranks) : FindExit(ranks);
  if (!loss.has_value()) return std::nullopt;
  const std::optional<RankExit>& exit = ranks[static_cast<size_t>(loss->rank)].exit;
  if (epoch_ == 1 && !said_ready_ && exit.has_value() && exit->signal == 0 && exit->code != 0 &&
      exit->code != kLauncherSilentExit) {
    return End(FailedPrecondition("{} before it was ready", loss->reason));
  }
  return OnLoss(*loss);
}

// The leader's end is what is waited for. Followers may end a little before it: it closes their
// channel.
std::optional<absl::Status> Supervisor::WatchDrain(bool ticked) {
  std::vector<RankSight> ranks = Look();
  const std::optional<RankExit> leader = ranks[0].exit;
  if (leader.has_value() && leader->signal == 0 && leader->code == 0) return End(absl::OkStatus());
  if (drain_now_) return End(DeadlineExceeded("told to end at once"));
  if (now_ >= *drain_until_) {
    return End(
        DeadlineExceeded("still draining after {}", absl::FormatDuration(options_.drain_timeout)));
  }
  bool followers_left = false;
  for (size_t rank = 1; rank < ranks.size(); ++rank) {
    std::optional<RankExit>& exit = ranks[rank].exit;
    if (!exit.has_value() || exit->signal != 0 || exit->code != 0) continue;
    exit.reset();
    followers_left = true;
  }
  const std::optional<Loss> loss =
      ticked && !followers_left ? judge_->Turn(ranks) : FindExit(ranks);
  if (loss.has_value()) return End(Aborted("{} while draining", loss->reason));
  return std::nullopt;
}

// What is known is said before anything is waited for.
std::optional<absl::Status> Supervisor::OnLoss(const Loss& loss) {
  Log(fmt::format("{}; epoch {} ends{}", loss.reason, epoch_, Whereabouts()));
  KillRanks();
  KeepFlight(loss.reason);
  memory_.reset();
  last_loss_ = loss.reason;
  if (options_.on_loss) options_.on_loss(loss.reason);

  losses_.push_back(now_);
  while (losses_.front() < now_ - Ticks(options_.restart_window)) losses_.pop_front();
  if (losses_.size() > static_cast<size_t>(options_.max_restarts)) {
    return ResourceExhausted("group was lost {} times within {}; the last time because {}",
                             losses_.size(), absl::FormatDuration(options_.restart_window),
                             loss.reason);
  }
  absl::Duration backoff = options_.first_backoff;
  for (size_t i = 1; i < losses_.size() && backoff < options_.max_backoff; ++i) backoff *= 2;
  backoff = std::min(backoff, options_.max_backoff);
  form_at_ = now_ + Ticks(backoff);
  Log(fmt::format("epoch {} begins in {}", epoch_ + 1, absl::FormatDuration(backoff)));
  return std::nullopt;
}

absl::Status Supervisor::End(const absl::Status& how) {
  KillRanks();
  if (!how.ok() && how.code() != absl::StatusCode::kDeadlineExceeded) {
    KeepFlight(std::string(MessageOf(how)));
  }
  memory_.reset();
  Log(how.ok() ? fmt::format("epoch {} is drained", epoch_)
               : fmt::format("epoch {} ends: {}", epoch_, MessageOf(how)));
  return how;
}

// All are told before the first is waited for: ranks that share a collective may wait for another.
void Supervisor::KillRanks() {
  for (Process& rank : ranks_) rank.Signal(SIGKILL);
  for (size_t rank = 0; rank < ranks_.size(); ++rank) {
    Process& process = ranks_[rank];
    process.Reap(absl::Seconds(5), [&] {
      Log(fmt::format(
          "rank {} (pid {}) was sent signal 9 and has not ended: it hangs in the kernel", rank,
          process.pid()));
    });
  }
  ranks_.clear();
}

// Where each rank was, as it said last.
std::string Supervisor::Whereabouts() const {
  std::string text;
  if (!memory_.has_value()) return text;
  for (size_t rank = 0; rank < ranks_.size(); ++rank) {
    const RankCell& cell = memory_->cell(static_cast<int>(rank));
    const RankSight sight = LookAt(cell);
    text += fmt::format("{} rank {} ", rank == 0 ? ":" : ",", rank);
    if (!sight.ready) {
      text += "was loading";
    } else if (sight.step_begun != sight.step_done) {
      text += fmt::format(
          "was in step {} for {}", sight.step_begun,
          absl::FormatDuration(absl::Nanoseconds(MonotonicNanos() - cell.step_begun_ns.load())));
    } else {
      text += fmt::format("had ended step {}", sight.step_done);
    }
  }
  return text;
}

void Supervisor::KeepFlight(const std::string& loss) const {
  if (options_.flight_directory.empty() || !memory_.has_value()) return;
  const absl::StatusOr<std::string> path = WriteFlight(
      options_.flight_directory, options_.max_flight_files, epoch_, RecordFlight(*memory_, loss));
  Log(path.ok() ? fmt::format("the last plans of epoch {} are in {}", epoch_, *path)
                : fmt::format("the last plans of epoch {} are lost: {}", epoch_,
                              MessageOf(path.status())));
}

int64_t Supervisor::Ticks(absl::Duration duration) const {
  return absl::IDivDuration(duration, options_.tick, &duration);
}

void Supervisor::Log(std::string_view line) const {
  if (options_.log) options_.log(line);
}

}  // namespace conclave::worker
