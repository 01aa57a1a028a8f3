#include "worker/group/server_bounds.h"

#include <grpcpp/resource_quota.h>

namespace conclave::worker {
namespace {

constexpr int kKeepaliveMs = 5000;
constexpr int kPollers = 2;  // Threads of gRPC's that carry no call.

}  // namespace

void BoundServer(const char* name, int calls, grpc::ServerBuilder& builder) {
  grpc::ResourceQuota quota(name);
  quota.SetMaxThreads(calls + kPollers);
  builder.SetResourceQuota(quota);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
}

}  // namespace conclave::worker
