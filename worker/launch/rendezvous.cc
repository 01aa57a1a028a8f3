#include "worker/launch/rendezvous.h"

#include <charconv>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "worker/group/group_memory.h"

namespace conclave::worker {
namespace {

using Variable = std::function<const char*(const char*)>;

absl::StatusOr<int> Number(const Variable& variable, const char* name, int least, int most) {
  const std::string_view text = variable(name);
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) {
    return InvalidArgument("{}={} is not a number from {} to {}", name, text, least, most);
  }
  return value;
}

// Whether all are there; some of them alone are an error.
absl::StatusOr<bool> AllOrNone(const Variable& variable, const std::vector<const char*>& names) {
  const char *there = nullptr, *missing = nullptr;
  for (const char* name : names) {
    (variable(name) != nullptr ? there : missing) = name;
  }
  if (there != nullptr && missing != nullptr) {
    return InvalidArgument("{} is set and {} is not: they belong together", there, missing);
  }
  return there != nullptr;
}

// This member's number among `size`.
absl::StatusOr<int> Index(const Variable& variable, const char* name, int size) {
  return Number(variable, name, 0, size - 1);
}

}  // namespace

absl::StatusOr<Rendezvous> ReadRendezvous(const Variable& variable) {
  ASSIGN_OR_RETURN(const bool torchrun,
                   AllOrNone(variable, {"MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE"}));
  ASSIGN_OR_RETURN(const bool set, AllOrNone(variable, {"LWS_LEADER_ADDRESS", "LWS_GROUP_SIZE",
                                                        "LWS_WORKER_INDEX"}));
  if (torchrun && set) {
    return InvalidArgument(
        "WORLD_SIZE and LWS_GROUP_SIZE are both set: one of them says who belongs together");
  }
  Rendezvous place;
  if (!torchrun && !set) return place;
  place.kind = set ? Rendezvous::Kind::kLeaderWorkerSet : Rendezvous::Kind::kTorchrun;
  const char* const address = set ? "LWS_LEADER_ADDRESS" : "MASTER_ADDR";
  place.address = variable(address);
  if (place.address.empty()) return InvalidArgument("{} is empty", address);
  const char* const size = set ? "LWS_GROUP_SIZE" : "WORLD_SIZE";
  ASSIGN_OR_RETURN(place.size, Number(variable, size, 1, kMaxRanks));
  ASSIGN_OR_RETURN(place.index, Index(variable, set ? "LWS_WORKER_INDEX" : "RANK", place.size));
  if (set) return place;
  ASSIGN_OR_RETURN(place.port, Number(variable, "MASTER_PORT", 1, 65'535));
  if (variable("LOCAL_RANK") != nullptr) {
    ASSIGN_OR_RETURN(place.local_index, Index(variable, "LOCAL_RANK", place.size));
  }
  return place;
}

}  // namespace conclave::worker
