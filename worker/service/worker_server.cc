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
  builder.SetOption(std::make_unique<grpc::HealthCheckServiceServerBuilderOption>(nullptr));
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr || port_ == 0) return Unavailable("cannot listen on {}", options.listen);
  {
    absl::MutexLock lock(&mutex_);
    server_ = std::move(server);
  }
  return StartHealth(options.health_listen);
}

// gRPC's own health service is on for every server that is built while this flag is set, unless it
// says no as the one above.
absl::Status WorkerServer::StartHealth(const std::string& address) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &health_port_);
  builder.RegisterCallbackGenericService(&no_service_);
  std::unique_ptr<grpc::Server> health = builder.BuildAndStart();
  if (health == nullptr || health_port_ == 0) return Unavailable("cannot listen on {}", address);
  health->GetHealthCheckService()->SetServingStatus(kLiveness, true);
  absl::MutexLock lock(&mutex_);
  health_ = std::move(health);
  TellReady();
  return absl::OkStatus();
}

WorkerServer::~WorkerServer() { Shutdown(absl::Now()); }

void WorkerServer::TellReady() {
  if (health_ == nullptr) return;
  for (const char* name : kReadyNames) {
    health_->GetHealthCheckService()->SetServingStatus(name, ready_);
  }
}

void WorkerServer::SetReady(bool ready) {
  absl::MutexLock lock(&mutex_);
  if (ready_ == ready) return;
  ready_ = ready;
  TellReady();
}

void WorkerServer::Shutdown(absl::Time deadline) {
  std::unique_ptr<grpc::Server> server, health;
  {
    absl::MutexLock lock(&mutex_);
    server = std::move(server_);
    health = std::move(health_);
  }
  if (server) server->Shutdown(absl::ToChronoTime(deadline));
  if (health) health->Shutdown(absl::ToChronoTime(absl::Now()));
}

}  // namespace conclave::worker
