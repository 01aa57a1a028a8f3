#pragma once

#include <absl/status/status.h>

#include "common/log.h"
#include "worker/launch/host_place.h"
#include "worker/launch/rank_flags.h"
#include "worker/worker_config.h"

namespace conclave::worker {

// One rank's life. Returns when the group ends in order, or could not begin: then the launcher has
// been told why. A rank that fails later ends the process within, with RankExitCode.
absl::Status RunRank(const RankFlags& flags, const WorkerConfig& config, const GroupPlace& place,
                     const Logger& log);

}  // namespace conclave::worker
