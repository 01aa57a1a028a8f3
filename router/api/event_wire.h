#pragma once

#include "conclave/v1/conclave.pb.h"
#include "router/contemplation/client_event.h"

namespace conclave::router {

// The public stream's events, as conclave.proto has them.
v1::GenerateResponse ToWire(const ClientEvent& event);

v1::Mode ToWire(Mode mode);

}  // namespace conclave::router
