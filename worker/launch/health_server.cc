#include "worker/launch/health_server.h"

#include <absl/time/clock.h>
#include <grpcpp/health_check_service_interface.h>

#include "common/status.h"

namespace conclave::worker {

HealthServer::~HealthServer() {
  if (server_ != nullptr) server_->Shutdown(absl::ToChronoTime(absl::Now()));
}

// gRPC's own health service is on for every server that is built while this flag is set.
absl::Status HealthServer::Start(const std::string& listen) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  builder.AddListeningPort(listen, grpc::InsecureServerCredentials(), &port_);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);  // Two workers must not share it.
  builder.RegisterCallbackGenericService(&no_service_);
  server_ = builder.BuildAndStart();
  grpc::EnableDefaultHealthCheckService(false);
  if (server_ == nullptr || port_ == 0) return Unavailable("cannot listen on {}", listen);
  server_->GetHealthCheckService()->SetServingStatus("liveness", true);
  SetReady(false);
  return absl::OkStatus();
}

void HealthServer::SetReady(bool ready) {
  for (const char* name : {"", "readiness", "conclave.v1.WorkerService"}) {
    server_->GetHealthCheckService()->SetServingStatus(name, ready);
  }
}

}  // namespace conclave::worker
