#pragma once

#include <absl/status/status.h>

#include <string>
#include <vector>

#include "common/log.h"
#include "worker/launch/host_place.h"
#include "worker/worker_config.h"

namespace conclave::worker {

// The launcher's life on this host: health, the way between the hosts, and the ranks, which are
// told `arguments`. Call it from main, before any thread is started. Returns how it ended: see
// Supervisor::Turn and Joiner::Turn.
absl::Status LaunchHost(const WorkerConfig& config, const GroupPlace& place,
                        std::vector<std::string> arguments, const Logger& log);

}  // namespace conclave::worker
