#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/status/status.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>
#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "common/wire/credentials.h"

namespace conclave::worker {

struct WorkerServerOptions {
  std::string listen = "127.0.0.1:0";  // Port 0: any.
  TlsOptions tls;
  int max_message_bytes = 32 << 20;                     // Of one request.
  int max_streams = 1024;                               // Of one connection.
  absl::Duration keepalive = absl::Seconds(5);          // Ping a silent peer after this long,
  absl::Duration keepalive_timeout = absl::Seconds(5);  // and wait this long for its answer.
};

// A leader's gRPC server of the worker API. Thread-safe, but started once.
class WorkerServer {
 public:
  WorkerServer() = default;
  ~WorkerServer();
  WorkerServer(const WorkerServer&) = delete;
  WorkerServer& operator=(const WorkerServer&) = delete;

  // `service` must live until Shutdown has returned. kUnavailable: the address can't be bound.
  // Errors of credentials as in common/wire/credentials.h.
  absl::Status Start(const WorkerServerOptions& options, grpc::Service* service);

  int port() const { return port_; }  // After Start.

  // Takes no more calls, and cancels those that are not over at `deadline`. Returns when all are.
  void Shutdown(absl::Time deadline);

 private:
  int port_ = 0;
  absl::Mutex mutex_;
  std::unique_ptr<grpc::Server> server_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace conclave::worker
