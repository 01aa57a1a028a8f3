#pragma once

#include <absl/status/status.h>

#include "worker/launch/joiner.h"
#include "worker/launch/supervisor.h"

namespace conclave::worker {

// Blocks SIGTERM, SIGINT and SIGCHLD in this thread: call it from main, before any thread is
// started.
absl::Status BlockLauncherSignals();

// The launcher's whole life, on the thread that blocked its signals: supervises the group, and
// returns how it ended (see Supervisor::Turn); no rank is alive then. SIGTERM or SIGINT drain, a
// second one ends at once. `others`: see Supervisor.
absl::Status RunLauncher(LauncherOptions options, OtherHosts* others = nullptr);

// The same for a host other than host 0 (see Joiner).
absl::Status RunJoiner(JoinerOptions options, HostLink& link);

}  // namespace conclave::worker
