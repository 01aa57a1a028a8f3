#include "worker/launch/launcher.h"

#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <utility>

#include "common/status.h"

namespace conclave::worker {

absl::Status RunLauncher(LauncherOptions options) {
  sigset_t signals;
  sigemptyset(&signals);
  for (int signal : {SIGTERM, SIGINT, SIGCHLD}) sigaddset(&signals, signal);
  if (pthread_sigmask(SIG_BLOCK, &signals, nullptr) != 0) {
    return Internal("cannot block signals");
  }
  const absl::Duration tick = options.tick;
  Supervisor supervisor(std::move(options));
  RETURN_IF_ERROR(supervisor.Start());

  int64_t next = MonotonicNanos() + absl::ToInt64Nanoseconds(tick);
  while (true) {
    const int64_t left = std::max(next - MonotonicNanos(), int64_t{0});
    const timespec wait = absl::ToTimespec(absl::Nanoseconds(left));
    const int signal = sigtimedwait(&signals, nullptr, &wait);
    if (signal == SIGTERM || signal == SIGINT) supervisor.Drain();
    // Ticks that were missed are not made up for: they are what a pause of the machine looks like.
    const int64_t now = MonotonicNanos();
    const bool ticked = now >= next;
    if (ticked) next = now + absl::ToInt64Nanoseconds(tick);
    if (std::optional<absl::Status> end = supervisor.Turn(ticked)) return *end;
  }
}

}  // namespace conclave::worker
