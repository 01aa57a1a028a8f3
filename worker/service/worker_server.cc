#include "worker/service/worker_server.h"

#include <absl/time/clock.h>
#include <grpcpp/ext/health_check_service_server_builder_option.h>
#include <grpcpp/health_check_service_interface.h>

#include <utility>

#include "common/status.h"

namespace conclave::worker {
namespace {

constexpr const char* kLiveness = "liveness";
constexpr const char* kReadyNames[] = {"", "readiness", "conclave.v1.WorkerService"};

}  // namespace

absl::StatusOr<std::unique_ptr<WorkerServer>> WorkerServer::Start(
    const WorkerServerOptions& options, grpc::Service* service) {
  ASSIGN_OR_RETURN(std::shared_ptr<grpc::ServerCredentials> credentials,
                   MakeServerCredentials(options.tls));
  std::unique_ptr<WorkerServer> self(new WorkerServer);

  grpc::ServerBuilder builder;
  builder.AddListeningPort(options.listen, std::move(credentials), &self->port_);
  builder.RegisterService(service);
  builder.SetMaxReceiveMessageSize(options.max_message_bytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.max_streams);
  // A compressed message would be unpacked before its size is checked.
  builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  const int keepalive_ms = static_cast<int>(absl::ToInt64Milliseconds(options.keepalive));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, keepalive_ms);
  builder.AddChannelArgument(
      GRPC_ARG_KEEPALIVE_TIMEOUT_MS,
      static_cast<int>(absl::ToInt64Milliseconds(options.keepalive_timeout)));
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  // Routers ping as often as we do, also without a call.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             keepalive_ms / 2);
  builder.SetOption(std::make_unique<grpc::HealthCheckServiceServerBuilderOption>(nullptr));
  self->server_ = builder.BuildAndStart();
  if (self->server_ == nullptr || self->port_ == 0) {
    return Unavailable("cannot listen on {}", options.listen);
  }

  // gRPC's own health service is on for every server that is built while this flag is set; the one
  // above said no. A server needs a service besides it.
  grpc::EnableDefaultHealthCheckService(true);
  self->no_service_ = std::make_unique<grpc::CallbackGenericService>();
  grpc::ServerBuilder health;
  health.AddListeningPort(options.health_listen, grpc::InsecureServerCredentials(),
                          &self->health_port_);
  health.RegisterCallbackGenericService(self->no_service_.get());
  self->health_ = health.BuildAndStart();
  if (self->health_ == nullptr || self->health_port_ == 0) {
    return Unavailable("cannot listen on {}", options.health_listen);
  }
  self->SetReady(false);
  self->health_->GetHealthCheckService()->SetServingStatus(kLiveness, true);
  return self;
}

WorkerServer::~WorkerServer() { Shutdown(absl::Now()); }

void WorkerServer::SetReady(bool ready) {
  for (const char* name : kReadyNames) {
    health_->GetHealthCheckService()->SetServingStatus(name, ready);
  }
}

void WorkerServer::Shutdown(absl::Time deadline) {
  if (server_) server_->Shutdown(absl::ToChronoTime(deadline));
  if (health_) health_->Shutdown(absl::ToChronoTime(absl::Now()));
}

}  // namespace conclave::worker
