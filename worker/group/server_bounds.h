#pragma once

#include <grpcpp/server_builder.h>

namespace conclave::worker {

// Bounds what strangers cost a server that gives each call a thread: no more than `calls` calls at
// a time, others get RESOURCE_EXHAUSTED; and who is silent is asked whether he is there, as a
// router is. `name`: of the quota.
void BoundServer(const char* name, int calls, grpc::ServerBuilder& builder);

}  // namespace conclave::worker
