#pragma once

#include <absl/status/status.h>

#include "worker/collective/nccl/nccl_collective.h"

namespace conclave::worker {

// Sets the variables that NCCL reads when it is first used; what the operator has set stays. The
// launcher watches the ranks: no port needs to tell of them. Ranks of one host meet on its
// loopback, those of several on the interface that has this one's address: kInvalidArgument when
// none has. Two ranks on one device of one host are refused by NCCL, so they say that their hosts
// differ.
absl::Status PrepareEnvironment(const NcclOptions& options);

}  // namespace conclave::worker
