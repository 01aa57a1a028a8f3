#pragma once

#include <absl/status/status.h>

#include "worker/launch/supervisor.h"

namespace conclave::worker {

// The launcher's whole life: blocks SIGTERM, SIGINT and SIGCHLD in this thread (call it from main,
// before any thread is started), supervises the group, and returns how it ended (see
// Supervisor::Turn); no rank is alive then. SIGTERM or SIGINT drain, a second one ends at once.
absl::Status RunLauncher(LauncherOptions options);

}  // namespace conclave::worker
