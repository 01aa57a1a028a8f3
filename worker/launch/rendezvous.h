#pragma once

#include <absl/status/statusor.h>

#include <functional>
#include <string>

namespace conclave::worker {

// Where a process stands among those that the environment says belong together.
struct Rendezvous {
  enum class Kind { kAlone, kTorchrun, kLeaderWorkerSet };

  Kind kind = Kind::kAlone;
  std::string address;  // The first member's.
  int port = 0;         // The first member's; 0: the environment names none.
  int size = 1;         // Members: ranks under torchrun, hosts of a LeaderWorkerSet.
  int index = 0;        // This one.
  int local_index = 0;  // Among the members of this host.
};

// Reads torchrun's variables (MASTER_ADDR, MASTER_PORT, RANK, WORLD_SIZE, LOCAL_RANK) or a
// LeaderWorkerSet's (LWS_LEADER_ADDRESS, LWS_GROUP_SIZE, LWS_WORKER_INDEX); none of them: alone.
// `variable` gives a variable's value or null, as getenv does. kInvalidArgument, naming the
// variable, when some are missing, both kinds are there, or a number is out of range.
absl::StatusOr<Rendezvous> ReadRendezvous(const std::function<const char*(const char*)>& variable);

}  // namespace conclave::worker
