#include "tests/integration/cluster.h"

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>

#include <filesystem>
#include <stdexcept>
#include <utility>

#include "conclave/v1/conclave.grpc.pb.h"

namespace conclave {
namespace {

const std::string kRoot = CONCLAVE_SOURCE_DIR;

void AddSettings(const std::vector<std::string>& settings, std::vector<std::string>& arguments) {
  for (const std::string& setting : settings) {
    arguments.push_back("--set");
    arguments.push_back(setting);
  }
}

}  // namespace

Cluster::Cluster(std::vector<std::string> worker)
    : worker_command_(std::move(worker)), folder_(FreshFolder()) {}

Cluster::~Cluster() {
  routers_.clear();
  worker_.reset();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

void Cluster::StartWorker(const std::vector<std::string>& settings) {
  std::vector<std::string> arguments;
  AddSettings({"model.directory=" + kRoot + "/models/conclave-demo",
               "model.fallback_profile=" + kRoot + "/configs/prompts/default.yaml"},
              arguments);
  AddSettings(settings, arguments);
  worker_ = Start("worker", "worker", std::move(arguments));
}

void Cluster::StartRouter(const std::vector<std::string>& settings, const std::string& name) {
  std::vector<std::string> arguments;
  AddSettings({"workers.addresses=[127.0.0.1:" + PortOf("worker", "server") + "]"}, arguments);
  AddSettings(settings, arguments);
  routers_[name] = Start("router", name, std::move(arguments));
}

void Cluster::AwaitServed(const std::string& name) const {
  const auto stub = v1::ConclaveService::NewStub(
      grpc::CreateChannel(RouterAddress(name), grpc::InsecureChannelCredentials()));
  const bool served = Eventually(absl::Seconds(120), [&] {
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    v1::ListModelsResponse response;
    return stub->ListModels(&context, {}, &response).ok() && response.models_size() > 0 &&
           response.models(0).groups_ready() > 0;
  });
  if (!served) throw std::runtime_error(name + " has no group:\n" + routers_.at(name)->Output());
}

std::vector<pid_t> Cluster::Ranks() const { return ChildrenOf(worker_->pid()); }

std::unique_ptr<Program> Cluster::Start(const std::string& kind, const std::string& name,
                                        std::vector<std::string> arguments) {
  const std::string ports = folder_ + "/" + name + ".ports";
  const bool again = std::filesystem::exists(ports);
  std::vector<std::string> command =
      kind == "worker" ? worker_command_ : std::vector{Program::PathOf("conclave-" + kind)};
  command.insert(command.end(), {"--config", kRoot + "/configs/" + kind + ".yaml"});
  std::vector<std::string> settings = {"ports_file=" + ports};
  // Others find it where it was; who asks for the rest reads the ports anew.
  settings.push_back("server.listen=127.0.0.1:" + (again ? PortOf(name, "server") : "0"));
  for (const char* other : {"health", "metrics"}) {
    settings.push_back(fmt::format("{}.listen=127.0.0.1:0", other));
  }
  AddSettings(settings, command);
  command.insert(command.end(), arguments.begin(), arguments.end());
  std::filesystem::remove(ports);
  auto started = std::make_unique<Program>(std::move(command), folder_ + "/" + name + ".log");
  Eventually(absl::Seconds(120),
             [&] { return !FileText(ports).empty() || started->Wait(absl::ZeroDuration()) >= 0; });
  if (FileText(ports).empty()) {
    throw std::runtime_error(name + " did not start:\n" + started->Output());
  }
  return started;
}

std::string Cluster::PortOf(const std::string& name, const std::string& which) const {
  const std::string ports = FileText(folder_ + "/" + name + ".ports");
  const size_t at = ports.find(which + "=") + which.size() + 1;
  return ports.substr(at, ports.find('\n', at) - at);
}

}  // namespace conclave
