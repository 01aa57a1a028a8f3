#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/time/time.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "common/wire/credentials.h"

namespace conclave::worker {

struct WorkerServerOptions {
  std::string listen = "127.0.0.1:0";  // Port 0: any.
  std::string health_listen = "127.0.0.1:0";
  TlsOptions tls;                               // Of the worker API; health is always plaintext.
  int max_message_bytes = 32 << 20;             // Of one request.
  int max_streams = 1024;                       // Of one connection.
  absl::Duration keepalive = absl::Seconds(5);  // Ping a silent peer after this long,
  absl::Duration keepalive_timeout = absl::Seconds(5);  // and wait this long for its answer.
};

// The two gRPC servers of a leader: the worker API, and standard health checking on a port of its
// own (names "", "liveness", "readiness" and "conclave.v1.WorkerService").
class WorkerServer {
 public:
  // `service` must outlive it. kUnavailable: an address can't be bound. Errors of credentials as in
  // common/wire/credentials.h. Not ready at first.
  static absl::StatusOr<std::unique_ptr<WorkerServer>> Start(const WorkerServerOptions& options,
                                                             grpc::Service* service);
  ~WorkerServer();

  int port() const { return port_; }
  int health_port() const { return health_port_; }

  // What health says, besides "liveness", which holds while this lives. Thread-safe.
  void SetReady(bool ready);
  // Takes no more calls, and cancels those that are not over at `deadline`. Returns when all are.
  void Shutdown(absl::Time deadline);

 private:
  WorkerServer() = default;

  std::unique_ptr<grpc::CallbackGenericService> no_service_;  // The health server's only other one.
  std::unique_ptr<grpc::Server> server_, health_;
  int port_ = 0, health_port_ = 0;
};

}  // namespace conclave::worker
