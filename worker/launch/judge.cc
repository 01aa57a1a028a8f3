#include "worker/launch/judge.h"

#include <algorithm>
#include <cstring>
#include <string_view>

#include "common/check.h"
#include "common/status.h"
#include "worker/launch/rank_flags.h"

namespace conclave::worker {
namespace {

std::string Describe(const RankSight& sight) {
  const RankExit& exit = *sight.exit;
  std::string text = exit.signal != 0 ? fmt::format("was killed by {}", SignalName(exit.signal))
                                      : fmt::format("exited with code {}", exit.code);
  if (!sight.last_words.empty()) text += fmt::format(": {}", sight.last_words);
  return text;
}

bool EndedForAPeer(const RankSight& sight) {
  return sight.exit.has_value() && sight.exit->signal == 0 && sight.exit->code == kPeerLostExit;
}

Loss MakeLoss(size_t rank, int pid, std::string_view what) {
  return {.rank = static_cast<int>(rank),
          .reason = fmt::format("rank {} (pid {}) {}", rank, pid, what)};
}

}  // namespace

std::string SignalName(int signal) {
  const char* name = sigabbrev_np(signal);
  if (name == nullptr) return fmt::format("signal {}", signal);
  return fmt::format("signal {} (SIG{})", signal, name);
}

// Reads begun, then the deadline, then done: see BeginStep.
RankSight LookAt(const RankCell& cell) {
  RankSight sight;
  sight.ready = cell.ready.load(std::memory_order_acquire) != 0;
  sight.beat = cell.beat.load(std::memory_order_acquire);
  sight.step_begun = cell.step_begun.load(std::memory_order_acquire);
  sight.step_patience = absl::Nanoseconds(cell.step_deadline_ns.load(std::memory_order_acquire) -
                                          cell.step_begun_ns.load(std::memory_order_acquire));
  sight.step_done = cell.step_done.load(std::memory_order_acquire);
  sight.engine_turns = cell.engine_turns.load(std::memory_order_acquire);
  sight.service_turns = cell.service_turns.load(std::memory_order_acquire);
  return sight;
}

Judge::Judge(int tp, absl::Duration tick, const JudgeLimits& limits)
    : tick_(tick), limits_(limits), watches_(static_cast<size_t>(tp)) {
  CHECK(tick > absl::ZeroDuration());
}

std::optional<Loss> FindExit(const std::vector<RankSight>& ranks) {
  std::optional<Loss> loss;
  bool killed = false;
  for (size_t i = 0; i < ranks.size(); ++i) {
    if (!ranks[i].exit.has_value() || EndedForAPeer(ranks[i])) continue;
    const bool this_killed = ranks[i].exit->signal != 0;
    if (loss.has_value() && (killed || !this_killed)) continue;
    killed = this_killed;
    loss = MakeLoss(i, ranks[i].pid, Describe(ranks[i]));
  }
  return loss;
}

std::optional<Loss> Judge::Turn(const std::vector<RankSight>& ranks) {
  CHECK(ranks.size() == watches_.size());
  std::optional<Loss> loss = FindExit(ranks);
  for (size_t i = 0; i < ranks.size(); ++i) {
    // Every watch counts this turn, even when a fault is known already.
    const std::optional<std::string> complaint = Complaint(ranks[i], watches_[i]);
    if (complaint.has_value() && !loss.has_value()) {
      loss = MakeLoss(i, ranks[i].pid, *complaint);
    }
  }
  return loss;
}

// A beat that is seen for the first time may be as old as a tick; another one is left for all the
// lateness of the ticks together.
int64_t Judge::TicksOfSilence(absl::Duration limit, absl::Duration tick) {
  absl::Duration rest;
  return std::max(absl::IDivDuration(limit, tick, &rest) - 2, int64_t{1});
}

std::optional<std::string> Judge::Complaint(const RankSight& sight, Watch& watch) const {
  const absl::Duration age = ++watch.turns * tick_;
  if (EndedForAPeer(sight)) {
    // It beats no more, and is no silent rank.
    if (++watch.ended_turns < TicksOfSilence(limits_.beat, tick_)) return std::nullopt;
    return Describe(sight);
  }
  const int64_t silence = watch.beat.Turn(sight.beat);
  watch.stopped_turns = sight.stopped ? watch.stopped_turns + 1 : 0;
  const absl::Duration step = watch.step.Turn(sight.step_begun) * tick_;
  const std::optional<std::string> loop = LoopComplaint(sight, watch);

  const absl::Duration beat_limit =
      sight.beat == 0 && !sight.ready ? limits_.first_beat : limits_.beat;
  const bool silent = silence >= TicksOfSilence(beat_limit, tick_);
  // Also before the first beat; and a rank that is both is told by the better known reason.
  if (watch.stopped_turns >= TicksOfSilence(limits_.beat, tick_) || (silent && sight.stopped)) {
    return fmt::format("has been stopped for {}",
                       absl::FormatDuration(watch.stopped_turns * tick_));
  }
  if (silent) {
    return fmt::format("has not moved its beat for {}", absl::FormatDuration(silence * tick_));
  }
  if (sight.step_begun != sight.step_done && step > sight.step_patience) {
    return fmt::format("is late with step {}: {} of {}", sight.step_begun,
                       absl::FormatDuration(step), absl::FormatDuration(sight.step_patience));
  }
  if (!sight.ready && age >= limits_.ready) {
    return fmt::format("is not ready {} after its start", absl::FormatDuration(age));
  }
  return loop;
}

// A loop that waits for the running step may stand still as long as the step may run.
std::optional<std::string> Judge::LoopComplaint(const RankSight& sight, Watch& watch) const {
  const bool running = sight.step_begun != sight.step_done;
  const absl::Duration limit =
      limits_.loop + (running ? sight.step_patience : absl::ZeroDuration());
  const absl::Duration engine = watch.engine.Turn(sight.engine_turns) * tick_;
  const absl::Duration service = watch.service.Turn(sight.service_turns) * tick_;
  if (sight.engine_turns > 0 && engine >= limit) {
    return fmt::format("has not turned its engine's loop for {}", absl::FormatDuration(engine));
  }
  if (sight.service_turns > 0 && service >= limit) {
    return fmt::format("has not turned its service's loop for {}", absl::FormatDuration(service));
  }
  return std::nullopt;
}

}  // namespace conclave::worker
