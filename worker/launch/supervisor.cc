#include "worker/launch/supervisor.h"

#include <signal.h>

#include <algorithm>
#include <random>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "worker/launch/flight_file.h"
#include "worker/launch/likeness.h"
#include "worker/launch/rank_flags.h"

namespace conclave::worker {

Supervisor::Supervisor(LauncherOptions options, OtherHosts* others) : options_(std::move(options)) {
  CHECK(options_.tick > absl::ZeroDuration());
  if (options_.place.hosts == 1) return;
  CHECK(others != nullptr && options_.place.host == 0);
  others_.emplace(*others, HostTableOptions{.tp = options_.tp,
                                            .hosts = options_.place.hosts,
                                            .tick = options_.tick,
                                            .silence = options_.judge.beat,
                                            .log = [this](std::string_view line) { Log(line); }});
}

Supervisor::~Supervisor() {
  if (ranks_.has_value()) ranks_->Kill([this](std::string_view line) { Log(line); });
}

absl::Status Supervisor::Start() {
  CHECK(epoch_ == 0);
  if (!others_.has_value()) return Form();
  Log(fmt::format("waits for {} other hosts", options_.place.hosts - 1));
  return absl::OkStatus();
}

std::vector<int> Supervisor::pids() const {
  return ranks_.has_value() ? ranks_->pids() : std::vector<int>();
}

bool Supervisor::ready() const {
  if (!ranks_.has_value()) return false;
  for (int rank = 0; rank < options_.tp; ++rank) {
    if (ranks_->memory().cell(rank).ready.load(std::memory_order_acquire) == 0) return false;
  }
  return true;
}

absl::Status Supervisor::Form() {
  ++epoch_;
  const uint64_t nonce = uint64_t{std::random_device()()} << 32 | std::random_device()();
  ASSIGN_OR_RETURN(ranks_, HostRanks::Begin(options_, {.number = epoch_, .nonce = nonce},
                                            last_loss_, all_losses_));
  judge_.emplace(options_.tp, options_.tick, options_.judge);
  said_ready_ = false;
  Log(fmt::format("epoch {} begins with {} ranks (pids {})", epoch_, options_.tp,
                  fmt::join(ranks_->pids(), ", ")));
  if (options_.on_epoch) options_.on_epoch(epoch_);
  return absl::OkStatus();
}

void Supervisor::Drain() {
  if (std::exchange(drain_for_host_, false)) return;  // That drain is this one now.
  if (drain_until_.has_value()) {
    drain_now_ = true;
    return;
  }
  BeginDrain();
}

void Supervisor::BeginDrain() {
  drain_until_ = now_ + Ticks(options_.drain_timeout);
  if (!ranks_.has_value()) return;
  Log(fmt::format("epoch {} drains for at most {}", epoch_,
                  absl::FormatDuration(options_.drain_timeout)));
  ranks_->Signal(0, SIGTERM);
}

std::optional<absl::Status> Supervisor::Turn(bool ticked) {
  if (ticked) ++now_;
  if (others_.has_value()) others_->Turn(ticked);
  std::optional<absl::Status> end = ranks_.has_value() ? TurnRanks(ticked) : TurnWithoutRanks();
  TellServing();
  if (others_.has_value()) {
    others_->Order(ranks_.has_value() ? &*ranks_ : nullptr, last_loss_, serving_);
  }
  return end;
}

std::optional<absl::Status> Supervisor::TurnRanks(bool ticked) {
  ranks_->memory().header().launcher_beat.fetch_add(1, std::memory_order_release);
  if (!drain_until_.has_value() && others_.has_value() && others_->leaving().has_value()) {
    Log(fmt::format("host {} is about to leave", *others_->leaving()));
    drain_for_host_ = true;
    BeginDrain();
  }
  return drain_until_.has_value() ? WatchDrain(ticked) : Watch(ticked);
}

std::optional<absl::Status> Supervisor::TurnWithoutRanks() {
  if (drain_until_.has_value()) return absl::OkStatus();
  if (now_ < form_at_) return std::nullopt;
  if (others_.has_value() && !others_->idle()) {
    const std::string missing = others_->WhoIsMissing();
    if (missing != said_missing_ && !missing.empty()) {
      Log(fmt::format("epoch {} waits for host {}", epoch_ + 1, missing));
    }
    said_missing_ = missing;
    return std::nullopt;
  }
  const absl::Status formed = Form();
  if (formed.ok()) return std::nullopt;
  return OnLoss({.rank = 0,
                 .reason = fmt::format("epoch {} could not begin: {}", epoch_, MessageOf(formed))});
}

// Whether families are taken, for those who ask about health.
void Supervisor::TellServing() {
  const bool serving =
      ranks_.has_value() && ranks_->memory().cell(0).serving.load(std::memory_order_relaxed) != 0;
  if (std::exchange(serving_, serving) != serving && options_.on_serving) {
    options_.on_serving(serving);
  }
}

std::vector<RankSight> Supervisor::Look() {
  std::vector<RankSight> sights = ranks_->Look();
  if (!others_.has_value()) return sights;
  for (RankSight& sight : others_->Ranks(ranks_->epoch(), ranks_->memory())) {
    sights.push_back(std::move(sight));
  }
  return sights;
}

// What is rather the cause comes first.
std::optional<Loss> Supervisor::FindLoss(const std::vector<RankSight>& ranks, bool ticked) {
  const std::optional<Loss> judged = ticked ? judge_->Turn(ranks) : std::nullopt;
  std::optional<Loss> loss = FindExit(ranks);
  if (!loss.has_value() && others_.has_value()) loss = others_->FindLoss(ranks_->epoch());
  return loss.has_value() ? loss : judged;
}

std::optional<absl::Status> Supervisor::Watch(bool ticked) {
  const std::vector<RankSight> ranks = Look();
  if (!said_ready_ && ready()) {
    said_ready_ = true;
    // Another start would not mend it. The leader serves nothing before it has looked, too.
    if (const absl::Status alike = CheckRanksAreAlike(ranks_->memory()); !alike.ok()) {
      return End(alike);
    }
    Log(fmt::format("epoch {} is ready", epoch_));
  }
  const std::optional<Loss> loss = FindLoss(ranks, ticked);
  if (!loss.has_value()) return std::nullopt;
  const std::optional<RankExit>& exit = ranks[static_cast<size_t>(loss->rank)].exit;
  if (epoch_ == 1 && !said_ready_ && exit.has_value() && exit->signal == 0 && exit->code != 0 &&
      exit->code != kLauncherSilentExit && exit->code != kPeerLostExit) {
    return End(FailedPrecondition("{} before it was ready", loss->reason));
  }
  return OnLoss(*loss);
}

// The leader's end is what is waited for. Followers may end a little before it: it closes their
// channel.
std::optional<absl::Status> Supervisor::WatchDrain(bool ticked) {
  std::vector<RankSight> ranks = Look();
  const std::optional<RankExit> leader = ranks[0].exit;
  if (leader.has_value() && leader->signal == 0 && leader->code == 0) {
    return EndDrain(absl::OkStatus());
  }
  if (drain_now_) return EndDrain(DeadlineExceeded("told to end at once"));
  if (now_ >= *drain_until_) {
    return EndDrain(
        DeadlineExceeded("still draining after {}", absl::FormatDuration(options_.drain_timeout)));
  }
  bool followers_left = false;
  for (size_t rank = 1; rank < ranks.size(); ++rank) {
    std::optional<RankExit>& exit = ranks[rank].exit;
    if (!exit.has_value() || exit->signal != 0 || exit->code != 0) continue;
    exit.reset();
    followers_left = true;
  }
  const std::optional<Loss> loss = FindLoss(ranks, ticked && !followers_left);
  if (loss.has_value()) return EndDrain(Aborted("{} while draining", loss->reason));
  return std::nullopt;
}

std::optional<absl::Status> Supervisor::EndDrain(const absl::Status& how) {
  absl::Status end = End(how);
  if (!drain_for_host_) return end;
  drain_for_host_ = false;
  last_loss_ = how.ok() ? "" : std::string(MessageOf(how));
  if (how.code() == absl::StatusCode::kAborted) ++all_losses_;  // Of a rank, while it drained.
  drain_until_.reset();
  form_at_ = now_;
  return std::nullopt;
}

// What is known is said before anything is waited for.
std::optional<absl::Status> Supervisor::OnLoss(const Loss& loss) {
  Log(fmt::format("{}; epoch {} ends{}", loss.reason, epoch_, Whereabouts()));
  if (ranks_.has_value()) {
    ranks_->Kill([this](std::string_view line) { Log(line); });
    KeepFlight(loss.reason);
    ranks_.reset();
  }
  last_loss_ = loss.reason;
  ++all_losses_;
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
  ranks_->Kill([this](std::string_view line) { Log(line); });
  if (!how.ok() && how.code() != absl::StatusCode::kDeadlineExceeded) {
    KeepFlight(std::string(MessageOf(how)));
  }
  ranks_.reset();
  Log(how.ok() ? fmt::format("epoch {} is drained", epoch_)
               : fmt::format("epoch {} ends: {}", epoch_, MessageOf(how)));
  return how;
}

// Where each rank was, as it said last.
std::string Supervisor::Whereabouts() const {
  std::string text;
  if (!ranks_.has_value()) return text;
  for (int rank = 0; rank < options_.tp; ++rank) {
    const RankCell& cell = ranks_->memory().cell(rank);
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
  if (options_.flight_directory.empty()) return;
  const absl::StatusOr<std::string> path =
      WriteFlight(options_.flight_directory, options_.max_flight_files, epoch_,
                  RecordFlight(ranks_->memory(), loss));
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
