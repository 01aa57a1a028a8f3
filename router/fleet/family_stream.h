#pragma once

#include <grpcpp/channel.h>

#include <memory>

#include "router/fleet/worker_client.h"

namespace conclave::router {

// Opens one Run stream on `channel` and returns its handle.
// Threads: any; events come from gRPC's threads.
std::unique_ptr<FamilyRun> OpenFamilyStream(const std::shared_ptr<grpc::Channel>& channel,
                                            FamilyOpening opening,
                                            std::shared_ptr<FamilyEvents> events);

}  // namespace conclave::router
