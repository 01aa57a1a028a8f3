#include "cli/asking.h"

#include <absl/base/thread_annotations.h>
#include <absl/random/random.h>
#include <absl/synchronization/mutex.h>
#include <absl/synchronization/notification.h>
#include <absl/time/clock.h>
#include <fmt/format.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <utility>

#include "cli/connection.h"
#include "cli/interrupt.h"
#include "cli/reconnect.h"
#include "common/status.h"
#include "common/wire/grpc_status.h"
#include "conclave/v1/conclave.grpc.pb.h"

namespace conclave::cli {
namespace {

// How long a request outlives a stream of ours that broke.
constexpr int kKeepSeconds = 30;
// How long the router may take to answer Stop.
constexpr std::chrono::seconds kStopPatience{5};

// One request, over as many streams as it takes. Interrupt may be called from any thread.
class Asking {
 public:
  Asking(const ServerOptions& options, v1::GenerateRequest request, const Caller& caller,
         Printer& printer)
      : options_(options),
        caller_(caller),
        joined_(std::move(request)),
        reconnect_(options.router),
        printer_(printer) {}

  // Asks until the end; OK: it is complete.
  absl::Status Run();
  // The best answer so far is asked for; when there is none to be had, the stream is cancelled.
  void Interrupt();

  const std::string& router() const { return reconnect_.router(); }
  const v1::Admitted& admitted() const { return joined_.admitted(); }
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

  const ServerOptions& options_;
  const Caller& caller_;
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
    call->stub = Connect(reconnect_.router(), caller_);
    AddKey(caller_.key, call->context);
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
    printer_.OnBreak(
        fmt::format("the stream broke ({}); asking {}", MessageOf(status), reconnect_.router()));
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
  AddKey(caller_.key, stop->context);
  stop->context.set_deadline(std::chrono::system_clock::now() + kStopPatience);
  call->stub->async()->Stop(&stop->context, &stop->request, &stop->response,
                            [call, stop](const grpc::Status& status) {
                              if (!status.ok()) call->context.TryCancel();
                            });
}

}  // namespace

Asked AskRouters(const ServerOptions& options, v1::GenerateRequest request, const Caller& caller,
                 Printer& printer) {
  if (!options.no_resume) request.mutable_keep_for()->set_seconds(kKeepSeconds);
  Asking asking(options, std::move(request), caller, printer);
  const InterruptWatch watch([&asking] { asking.Interrupt(); });  // Before gRPC has threads.
  printer.OnStart();
  Asked asked;
  asked.status = asking.Run();
  printer.OnEnd();
  asked.interrupted = watch.interrupted();
  asked.router = asking.router();
  asked.admitted = asking.admitted();
  asked.receipt = asking.receipt();
  return asked;
}

}  // namespace conclave::cli
