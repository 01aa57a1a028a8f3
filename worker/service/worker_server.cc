#include "worker/service/worker_server.h"

#include <absl/time/clock.h>

#include <utility>

#include "common/status.h"

namespace conclave::worker {

absl::Status WorkerServer::Start(const WorkerServerOptions& options, grpc::Service* service) {
  ASSIGN_OR_RETURN(std::shared_ptr<grpc::ServerCredentials> credentials,
                   MakeServerCredentials(options.tls));
  const auto milliseconds = [](absl::Duration duration) {
    return static_cast<int>(absl::ToInt64Milliseconds(duration));
  };
  grpc::ServerBuilder builder;
  builder.AddListeningPort(options.listen, std::move(credentials), &port_);
  builder.RegisterService(service);
  builder.SetMaxReceiveMessageSize(options.max_message_bytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.max_streams);
  // A compressed message would be unpacked before its size is checked.
  builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, milliseconds(options.keepalive));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
                             milliseconds(options.keepalive_timeout));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // Routers ping as often as we do, also without a call.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             milliseconds(options.keepalive / 2));
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port_ == 0) return Unavailable("cannot listen on {}", options.listen);
  absl::MutexLock lock(&mutex_);
  server_ = std::move(server);
  return absl::OkStatus();
}

WorkerServer::~WorkerServer() { Shutdown(absl::Now()); }

void WorkerServer::Shutdown(absl::Time deadline) {
  std::unique_ptr<grpc::Server> server;
  {
    absl::MutexLock lock(&mutex_);
    server = std::move(server_);
  }
  if (server) server->Shutdown(absl::ToChronoTime(deadline));
}

}  // namespace conclave::worker
