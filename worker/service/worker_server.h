#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/status/status.h>
#include <absl/synchronization/mutex.h>
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
// own (names "", "liveness", "readiness" and "conclave.v1.WorkerService"). Thread-safe, but started
// once.
class WorkerServer {
 public:
  WorkerServer() = default;
  ~WorkerServer();
  WorkerServer(const WorkerServer&) = delete;
  WorkerServer& operator=(const WorkerServer&) = delete;

  // `service` must live until Shutdown has returned. kUnavailable: an address can't be bound.
  // Errors of credentials as in common/wire/credentials.h.
  absl::Status Start(const WorkerServerOptions& options, grpc::Service* service);

  // After Start.
  int port() const { return port_; }
  int health_port() const { return health_port_; }

  // What health says, besides "liveness", which holds while this is started. Not ready at first;
  // may be called before Start and after Shutdown. Cheap when nothing changes.
  void SetReady(bool ready);

  // Takes no more calls, and cancels those that are not over at `deadline`. Returns when all are.
  void Shutdown(absl::Time deadline);

 private:
  absl::Status StartHealth(const std::string& address);
  void TellReady() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  grpc::CallbackGenericService no_service_;  // A server needs one besides gRPC's health service.
  int port_ = 0, health_port_ = 0;
  absl::Mutex mutex_;
  std::unique_ptr<grpc::Server> server_ ABSL_GUARDED_BY(mutex_), health_ ABSL_GUARDED_BY(mutex_);
  bool ready_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace conclave::worker
