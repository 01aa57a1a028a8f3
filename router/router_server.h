#pragma once

#include <absl/status/status.h>
#include <absl/time/time.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <memory>

#include "router/router_config.h"

namespace conclave::router {

// The router's two gRPC servers: the public API, and standard health checking on a plaintext port
// of its own (names "", "liveness", "readiness", "conclave.v1.ConclaveService"). One thread.
class RouterServer {
 public:
  // `service` must live until Shutdown has returned. kUnavailable: an address can't be bound.
  // Errors of credentials as in common/wire/credentials.h.
  absl::Status Start(const RouterConfig& config, grpc::Service* service);
  void SetReady(bool ready);
  // Takes no more calls, and cancels those that are not over at `deadline`.
  void Shutdown(absl::Time deadline);

  int port() const { return port_; }
  int health_port() const { return health_port_; }

 private:
  grpc::CallbackGenericService no_service_;  // A server needs one besides gRPC's health service.
  std::unique_ptr<grpc::Server> server_, health_;
  int port_ = 0, health_port_ = 0;
};

}  // namespace conclave::router
