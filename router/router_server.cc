#include "router/router_server.h"

#include <grpcpp/ext/health_check_service_server_builder_option.h>
#include <grpcpp/health_check_service_interface.h>

#include <utility>

#include "common/status.h"

namespace conclave::router {

absl::Status RouterServer::Start(const RouterConfig& config, grpc::Service* service) {
  ASSIGN_OR_RETURN(std::shared_ptr<grpc::ServerCredentials> credentials,
                   MakeServerCredentials(config.tls));
  grpc::ServerBuilder builder;
  builder.AddListeningPort(config.listen, std::move(credentials), &port_);
  builder.RegisterService(service);
  builder.SetMaxReceiveMessageSize(static_cast<int>(config.max_message.bytes));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, config.max_streams);
  // A compressed message would be unpacked before its size is checked.
  builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  // Clients may ping every 10 seconds, also without a call, as common SDKs do.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10'000);
  builder.SetOption(std::make_unique<grpc::HealthCheckServiceServerBuilderOption>(nullptr));
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || port_ == 0) return Unavailable("cannot listen on {}", config.listen);

  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder health;
  health.AddListeningPort(config.health_listen, grpc::InsecureServerCredentials(), &health_port_);
  health.RegisterCallbackGenericService(&no_service_);
  health_ = health.BuildAndStart();
  if (health_ == nullptr || health_port_ == 0)
    return Unavailable("cannot listen on {}", config.health_listen);
  health_->GetHealthCheckService()->SetServingStatus("liveness", true);
  SetReady(false);
  return absl::OkStatus();
}

void RouterServer::SetReady(bool ready) {
  for (const char* name : {"", "readiness", "conclave.v1.ConclaveService"}) {
    health_->GetHealthCheckService()->SetServingStatus(name, ready);
  }
}

void RouterServer::Shutdown(absl::Time deadline) {
  if (server_) server_->Shutdown(absl::ToChronoTime(deadline));
  if (health_) health_->Shutdown(absl::ToChronoTime(deadline));
}

}  // namespace conclave::router
