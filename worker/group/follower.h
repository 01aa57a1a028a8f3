#pragma once

#include <absl/status/status.h>

#include "worker/group/control_channel.h"
#include "worker/group/rank_cell.h"
#include "worker/runner/rank_steps.h"

namespace conclave::worker {

// What every rank but the leader does: receive a plan, check its number, run it, report its hash.
// One step after another: with more than one rank a token is known only after their exchange.
// Marks the cell ready first. Returns only with the reason why it ended: kCancelled when the leader
// closed the channel, otherwise what went wrong. The process then exits at once.
absl::Status Follow(FollowerChannel& channel, RankSteps& steps, RankCell& cell);

}  // namespace conclave::worker
