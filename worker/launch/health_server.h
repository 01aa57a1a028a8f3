#pragma once

#include <absl/status/status.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

namespace conclave::worker {

// Standard gRPC health checking of one host, by its launcher, plaintext: "liveness" holds while
// this is started, and "", "readiness" and "conclave.v1.WorkerService" while the group serves,
// wherever its leader is. So it answers on every host of a group, and while a group is being
// formed. Thread-safe, but started once.
class HealthServer {
 public:
  HealthServer() = default;
  ~HealthServer();
  HealthServer(const HealthServer&) = delete;
  HealthServer& operator=(const HealthServer&) = delete;

  // HOST:PORT; port 0: any. kUnavailable: it cannot be bound. Not ready at first.
  absl::Status Start(const std::string& listen);
  int port() const { return port_; }

  // After Start.
  void SetReady(bool ready);

 private:
  grpc::CallbackGenericService no_service_;  // A server needs one besides gRPC's health service.
  std::unique_ptr<grpc::Server> server_;
  int port_ = 0;
};

}  // namespace conclave::worker
