#include "worker/launch/launcher.h"

#include <signal.h>

#include <algorithm>
#include <csignal>
#include <ctime>
#include <utility>

#include "common/status.h"

namespace conclave::worker {
namespace {

sigset_t LauncherSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (int signal : {SIGTERM, SIGINT, SIGCHLD}) sigaddset(&signals, signal);
  return signals;
}

// Turns `watcher` (a Supervisor or a Joiner) until it says how it ended: at every tick, and when a
// signal comes.
template <typename Watcher>
absl::Status TurnToTheEnd(Watcher& watcher, absl::Duration tick) {
  const sigset_t signals = LauncherSignals();
  const int64_t length = absl::ToInt64Nanoseconds(tick);
  int64_t next = MonotonicNanos() + length;
  while (true) {
    const int64_t left = std::max(next - MonotonicNanos(), int64_t{0});
    const timespec wait = absl::ToTimespec(absl::Nanoseconds(left));
    const int signal = sigtimedwait(&signals, nullptr, &wait);
    if (signal == SIGTERM || signal == SIGINT) watcher.Drain();
    // A late tick does not move the later ones; those that were missed are not made up for: they
    // are what a pause of the machine looks like.
    const int64_t now = MonotonicNanos();
    const bool ticked = now >= next;
    if (ticked) next = next + length > now ? next + length : now + length;
    if (std::optional<absl::Status> end = watcher.Turn(ticked)) return *end;
  }
}

}  // namespace

absl::Status BlockLauncherSignals() {
  const sigset_t signals = LauncherSignals();
  if (pthread_sigmask(SIG_BLOCK, &signals, nullptr) != 0) {
    return Internal("cannot block signals");
  }
  // Whoever started this process may have ignored it: then children would leave no exit status.
  std::signal(SIGCHLD, SIG_DFL);
  return absl::OkStatus();
}

absl::Status RunLauncher(LauncherOptions options, OtherHosts* others) {
  const absl::Duration tick = options.tick;
  Supervisor supervisor(std::move(options), others);
  RETURN_IF_ERROR(supervisor.Start());
  return TurnToTheEnd(supervisor, tick);
}

absl::Status RunJoiner(JoinerOptions options, HostLink& link) {
  const absl::Duration tick = options.tick;
  Joiner joiner(std::move(options), link);
  return TurnToTheEnd(joiner, tick);
}

}  // namespace conclave::worker
