#pragma once

#include <absl/status/status.h>

#include "worker/group/group_memory.h"

namespace conclave::worker {

// Hosts may differ where they must not: in the model's files, or in what their processors have.
// kFailedPrecondition says which rank computes with something else than rank 0, and with what.
// REQUIRES: all ranks are ready.
absl::Status CheckRanksAreAlike(const GroupMemory& memory);

}  // namespace conclave::worker
