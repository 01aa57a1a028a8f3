#pragma once

#include <absl/status/statusor.h>

#include "conclave/v1/group.pb.h"
#include "worker/launch/host_state.h"

// host_state.h <-> group.proto. FromWire checks all that a peer could get wrong (lengths, ranges)
// and answers kInvalidArgument with the field.
namespace conclave::worker {

// No message of a membership is longer, in bytes.
inline constexpr int kMaxHostMessageBytes = 1 << 20;

v1::HostReport ToWire(const HostReport& report);
absl::StatusOr<HostReport> FromWire(const v1::HostReport& report);

v1::JoinResponse ToWire(const HostOrders& orders);
absl::StatusOr<HostOrders> FromWire(const v1::JoinResponse& orders);

}  // namespace conclave::worker
