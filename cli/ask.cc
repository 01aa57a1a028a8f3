#include "cli/ask.h"

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <pthread.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <iostream>
#include <thread>

#include "common/status.h"
#include "common/wire/grpc_status.h"

namespace conclave::cli {
namespace {

// Cancels a call on SIGINT while it lives. SIGINT is blocked in all threads; one of ours waits for
// it.
class InterruptWatch {
 public:
  explicit InterruptWatch(grpc::ClientContext& context) : context_(context) {
    sigemptyset(&set_);
    sigaddset(&set_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    thread_ = std::thread([this] { Wait(); });
  }
  ~InterruptWatch() {
    done_ = true;
    pthread_kill(thread_.native_handle(),
                 SIGINT);  // Ends the wait; `done_` tells it apart from Ctrl-C.
    thread_.join();
    pthread_sigmask(SIG_UNBLOCK, &set_, nullptr);
  }
  bool interrupted() const { return interrupted_; }

 private:
  void Wait() {
    int signal = 0;
    sigwait(&set_, &signal);
    if (done_) return;
    interrupted_ = true;
    context_.TryCancel();
    while (!done_) sigwait(&set_, &signal);
  }

  grpc::ClientContext& context_;
  sigset_t set_;
  std::atomic<bool> done_ = false, interrupted_ = false;
  std::thread thread_;
};

const char* Advice(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::UNAVAILABLE:
      return "is the router running? `make serve` starts one, --router names another";
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return "try again in a moment";
    case grpc::StatusCode::UNAUTHENTICATED:
      return "--api-key-file names a file with a key";
    case grpc::StatusCode::NOT_FOUND:
      return "`conclave models` lists what is served";
    default:
      return nullptr;
  }
}

int Report(const std::string& router, const grpc::Status& status) {
  std::cerr << fmt::format(
      "conclave: {}: {}: {}\n", router,
      absl::StatusCodeToString(static_cast<absl::StatusCode>(status.error_code())),
      Printable(status.error_message()));
  if (const char* advice = Advice(status.error_code())) std::cerr << "  " << advice << '\n';
  return kExitFailed;
}

absl::Status AddKey(const std::string& path, grpc::ClientContext& context) {
  if (path.empty()) return absl::OkStatus();
  std::ifstream file(path);
  std::string key;
  if (!std::getline(file, key) || key.empty()) return NotFound("{} holds no key", path);
  context.AddMetadata("authorization", "Bearer " + key);
  return absl::OkStatus();
}

int Usage(const absl::Status& status) {
  std::cerr << "conclave: " << MessageOf(status) << '\n';
  return kExitUsage;
}

}  // namespace

std::unique_ptr<v1::ConclaveService::Stub> Connect(const std::string& router) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(64 << 20);
  return v1::ConclaveService::NewStub(
      grpc::CreateCustomChannel(router, grpc::InsecureChannelCredentials(), arguments));
}

int Ask(const AskOptions& options, v1::ConclaveService::Stub& stub, Printer& printer) {
  const auto request = MakeRequest(options);
  if (!request.ok()) return Usage(request.status());
  grpc::ClientContext context;
  if (const absl::Status key = AddKey(options.api_key_file, context); !key.ok()) return Usage(key);

  InterruptWatch watch(context);
  auto reader = stub.Generate(&context, *request);
  v1::GenerateResponse event;
  v1::Receipt receipt;
  while (reader->Read(&event)) {
    printer.On(event);
    if (event.has_completed()) receipt = event.completed().receipt();
  }
  const grpc::Status status = reader->Finish();
  if (watch.interrupted()) {
    std::cerr << "conclave: cancelled\n";
    return kExitInterrupted;
  }
  if (!status.ok()) return Report(options.router, status);
  if (!options.receipt_file.empty()) {
    std::ofstream file(options.receipt_file);
    file << ReceiptToJson(receipt);
    if (!file.flush()) return Usage(NotFound("{} cannot be written", options.receipt_file));
  }
  return kExitOk;
}

int ListModels(const std::string& router, v1::ConclaveService::Stub& stub) {
  grpc::ClientContext context;
  v1::ListModelsResponse response;
  const grpc::Status status = stub.ListModels(&context, {}, &response);
  if (!status.ok()) return Report(router, status);
  std::cout << fmt::format("{:<24} {:>10} {:>4} {:>10} {:>7} {:>7}  {}\n", "model", "parameters",
                           "tp", "positions", "agents", "groups", "fingerprint");
  for (const v1::Model& model : response.models()) {
    const v1::ModelDescription& d = model.description();
    std::cout << fmt::format("{:<24} {:>10} {:>4} {:>10} {:>7} {:>7}  {:.12}\n", d.name(),
                             d.parameters(), d.tensor_parallel(), d.max_positions(),
                             model.max_agents(), model.groups_ready(), d.fingerprint());
  }
  return kExitOk;
}

}  // namespace conclave::cli
