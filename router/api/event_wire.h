#pragma once

#include <cstddef>

#include "conclave/v1/conclave.pb.h"
#include "router/contemplation/client_event.h"

namespace conclave::router {

// A message to a client stays below gRPC's default limit of 4 MiB. What ClientOutbox does not cut:
// the answer in Completed, and answers in votes, ends and the receipt, of which these first bytes
// are told (between two characters). Clients hear the whole in deltas.
inline constexpr size_t kMostAnswerTold = size_t{2} << 20;
inline constexpr size_t kMostVoteTold = size_t{8} << 10;

// The public stream's events, as conclave.proto has them.
v1::GenerateResponse ToWire(const ClientEvent& event);

v1::Mode ToWire(Mode mode);

}  // namespace conclave::router
