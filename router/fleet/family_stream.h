#pragma once

#include <memory>

#include "conclave/v1/worker.grpc.pb.h"
#include "router/fleet/worker_client.h"

namespace conclave::router {

// Opens one Run stream on `stub` and returns its handle. `stub` must outlive the call only.
// Threads: any; events come from gRPC's threads.
std::unique_ptr<FamilyRun> OpenFamilyStream(v1::WorkerService::Stub& stub, FamilyOpening opening,
                                            std::shared_ptr<FamilyEvents> events);

}  // namespace conclave::router
