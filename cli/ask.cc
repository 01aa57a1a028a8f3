#include "cli/ask.h"

#include <absl/base/thread_annotations.h>
#include <absl/random/random.h>
#include <absl/synchronization/mutex.h>
#include <absl/synchronization/notification.h>
#include <absl/time/clock.h>
#include <fmt/format.h>
#include <grpcpp/grpcpp.h>

#include <fstream>
#include <iostream>
#include <memory>
#include <utility>

#include "cli/error_text.h"
#include "cli/exit_code.h"
#include "cli/interrupt.h"
#include "cli/reconnect.h"
#include "cli/terminal_text.h"
#include "common/status.h"
#include "common/wire/grpc_status.h"
#include "conclave/v1/conclave.grpc.pb.h"

namespace conclave::cli {
namespace {

// How long a request outlives a stream of ours that broke.
constexpr int kKeepSeconds = 30;
// How long the router may take to answer Stop.
constexpr std::chrono::seconds kStopPatience{5};

// The channel connects on first use. A router that is gone without a word is noticed.
std::unique_ptr<v1::ConclaveService::Stub> Connect(const std::string& router) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(64 << 20);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 15'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
  // Each attempt connects anew, however long the last one was told to wait.
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return v1::ConclaveService::NewStub(
      grpc::CreateCustomChannel(router, grpc::InsecureChannelCredentials(), arguments));
}

int Report(const std::string& router, const grpc::Status& status) {
  std::cerr << ErrorText(router, FromGrpc(status)) << std::flush;
  return kExitFailed;
}

void AddKey(const std::string& key, grpc::ClientContext& context) {
  if (!key.empty()) context.AddMetadata("authorization", "Bearer " + key);
}

// Before tokens are spent: a receipt that cannot be kept is found out now. Leaves what is there.
absl::Status CanWrite(const std::string& path) {
  if (path.empty() || std::ofstream(path, std::ios::app).is_open()) return absl::OkStatus();
  return NotFound("--receipt {} cannot be written; name a file in a folder that exists", path);
}

absl::Status WriteReceipt(const std::string& path, const v1::Receipt& receipt) {
  if (path.empty()) return absl::OkStatus();
  std::ofstream file(path);
  file << ReceiptToJson(receipt);
  if (!file.flush()) return NotFound("--receipt {} cannot be written; is the disk full?", path);
  return absl::OkStatus();
}

// One request, over as many streams as it takes. Interrupt may be called from any thread.
class Asking {
 public:
  Asking(const AskOptions& options, v1::GenerateRequest request, std::string key, Printer& printer)
      : options_(options),
        key_(std::move(key)),
        joined_(std::move(request)),
        reconnect_(options.router),
        printer_(printer) {}

  // Asks until the end; OK: it is complete.
  absl::Status Run();
  // The best answer so far is asked for; when there is none to be had, the stream is cancelled.
  void Interrupt();

  const std::string& router() const { return reconnect_.router(); }
  const v1::Receipt& receipt() const { return joined_.receipt(); }

 private:
  // Shared: an answer to Stop may come after the stream has ended.
  struct Call {
    std::unique_ptr<v1::ConclaveService::Stub> stub;
    grpc::ClientContext context;
  };
  struct StopCall {
    grpc::ClientContext context;
    v1::StopRequest request;
    v1::StopResponse response;
  };

  absl::Status Stream(const std::shared_ptr<Call>& call);
  void TellOfBreak(const absl::Status& why);

  const AskOptions& options_;
  const std::string key_;
  const absl::Time began_ = absl::Now();
  JoinedStream joined_;
  Reconnect reconnect_;
  Printer& printer_;
  absl::Notification interrupted_;
  absl::Mutex mutex_;
  std::shared_ptr<Call> call_ ABSL_GUARDED_BY(mutex_);  // Null between two streams.
  std::string id_ ABSL_GUARDED_BY(mutex_);              // The request's, once it was admitted.
};

absl::Status Asking::Run() {
  absl::BitGen random;
  while (true) {
    const auto call = std::make_shared<Call>();
    call->stub = Connect(reconnect_.router());
    AddKey(key_, call->context);
    {
      absl::MutexLock lock(&mutex_);
      call_ = call;
    }
    if (interrupted_.HasBeenNotified()) return Cancelled("interrupted");
    const absl::Status status = Stream(call);
    {
      absl::MutexLock lock(&mutex_);
      call_ = nullptr;
    }
    if (status.ok() || options_.no_resume || interrupted_.HasBeenNotified()) return status;
    const std::optional<absl::Duration> wait = reconnect_.After(status);
    if (!wait) return status;
    TellOfBreak(status);
    // Many clients lose a router at the same time.
    if (interrupted_.WaitForNotificationWithTimeout(*wait * absl::Uniform(random, 0.5, 1.0)))
      return status;
  }
}

absl::Status Asking::Stream(const std::shared_ptr<Call>& call) {
  const auto reader = call->stub->Generate(&call->context, joined_.Begin(absl::Now() - began_));
  absl::Status wrong;
  for (v1::GenerateResponse event; wrong.ok() && reader->Read(&event);) {
    const absl::StatusOr<bool> news = joined_.Take(event);
    if (!news.ok()) {
      wrong = news.status();
      call->context.TryCancel();
    } else if (*news) {
      printer_.On(event);
    }
    if (joined_.stream_admitted()) reconnect_.OnAdmitted();
    absl::MutexLock lock(&mutex_);
    id_ = joined_.admitted().request_id();
  }
  const absl::Status status = FromGrpc(reader->Finish());
  if (!wrong.ok()) return wrong;
  if (!status.ok()) return status;
  return joined_.complete() ? absl::OkStatus() : DataLoss("the stream ended early");
}

// In the words of the stream's own events; not among the router's when a program reads them.
void Asking::TellOfBreak(const absl::Status& why) {
  if (options_.json) return;
  v1::GenerateResponse event;
  event.mutable_group_changed()->set_reason(
      fmt::format("the stream broke ({}); asking {}", MessageOf(why), reconnect_.router()));
  printer_.On(event);
}

void Asking::Interrupt() {
  interrupted_.Notify();
  printer_.OnStopping();
  std::shared_ptr<Call> call;
  const auto stop = std::make_shared<StopCall>();
  {
    absl::MutexLock lock(&mutex_);
    call = call_;
    stop->request.set_request_id(id_);
  }
  if (call == nullptr) return;
  if (stop->request.request_id().empty()) return call->context.TryCancel();
  AddKey(key_, stop->context);
  stop->context.set_deadline(std::chrono::system_clock::now() + kStopPatience);
  call->stub->async()->Stop(&stop->context, &stop->request, &stop->response,
                            [call, stop](const grpc::Status& status) {
                              if (!status.ok()) call->context.TryCancel();
                            });
}

}  // namespace

int Usage(const absl::Status& status) {
  std::cerr << "conclave: " << OneLine(MessageOf(status)) << '\n';
  return kExitUsage;
}

int Ask(const AskOptions& options, const v1::GenerateRequest& request, Printer& printer) {
  const absl::StatusOr<std::string> key =
      options.api_key_file.empty() ? std::string() : ReadKey(options.api_key_file);
  if (!key.ok()) return Usage(key.status());
  if (const absl::Status file = CanWrite(options.receipt_file); !file.ok()) return Usage(file);

  v1::GenerateRequest kept = request;
  if (!options.no_resume) kept.mutable_keep_for()->set_seconds(kKeepSeconds);
  Asking asking(options, std::move(kept), *key, printer);
  const InterruptWatch watch([&asking] { asking.Interrupt(); });  // Before gRPC has threads.
  printer.OnStart();
  const absl::Status status = asking.Run();
  printer.OnEnd();
  if (!status.ok() && watch.interrupted()) {
    std::cerr << "conclave: cancelled\n";
    return kExitInterrupted;
  }
  if (!status.ok()) return Report(asking.router(), ToGrpc(status));
  const absl::Status written = WriteReceipt(options.receipt_file, asking.receipt());
  if (!written.ok()) return Usage(written);
  return watch.interrupted() ? kExitInterrupted : kExitOk;
}

int ListModels(const std::string& routers) {
  const std::string router = Reconnect(routers).router();
  grpc::ClientContext context;
  v1::ListModelsResponse response;
  const grpc::Status status = Connect(router)->ListModels(&context, {}, &response);
  if (!status.ok()) return Report(router, status);
  std::cout << fmt::format("{:<24} {:>10} {:>4} {:>10} {:>7} {:>7}  {}\n", "model", "parameters",
                           "tp", "positions", "agents", "groups", "fingerprint");
  for (const v1::Model& model : response.models()) {
    const v1::ModelDescription& d = model.description();
    std::cout << fmt::format("{:<24} {:>10} {:>4} {:>10} {:>7} {:>7}  {:.12}\n", OneLine(d.name()),
                             d.parameters(), d.tensor_parallel(), d.max_positions(),
                             model.max_agents(), model.groups_ready(), OneLine(d.fingerprint()));
  }
  return kExitOk;
}

}  // namespace conclave::cli
