#include "router/api/client_call.h"

#include <utility>

#include "common/status.h"
#include "common/status_details.h"
#include "common/wire/grpc_status.h"
#include "router/api/event_wire.h"

namespace conclave::router {

ClientCall::ClientCall(Transport transport, Clock& clock, std::string request_id)
    : transport_(std::move(transport)), clock_(clock), request_id_(std::move(request_id)) {}

void ClientCall::Attach(std::shared_ptr<Generation> generation, int client,
                        std::function<void()> gone) {
  bool cancelled = false;
  {
    absl::MutexLock lock(&mutex_);
    generation_ = std::move(generation);
    client_ = client;
    gone_ = std::move(gone);
    cancelled = cancelled_;
  }
  if (cancelled) Leave();
  Wake();
}

void ClientCall::Refuse(const absl::Status& why) {
  {
    absl::MutexLock lock(&mutex_);
    if (std::exchange(finished_, true)) return;
  }
  Finish(why);
}

void ClientCall::Wake() {
  std::optional<absl::Status> end;
  {
    absl::MutexLock lock(&mutex_);
    if (writing_ || finished_ || generation_ == nullptr) return;
    if (const auto event = cancelled_ ? std::nullopt : generation_->NextEvent(client_)) {
      message_ = ToWire(*event);
      writing_ = true;
      write_began_ = clock_.Now();
    } else {
      end = cancelled_ ? std::optional(absl::Status(Cancelled("the client is gone")))
                       : generation_->End(client_);
      if (!end) return;
      finished_ = true;
    }
  }
  if (end) return Finish(*end);
  transport_.write(&message_);
}

void ClientCall::OnWritten(bool ok) {
  {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok) cancelled_ = true;
  }
  Wake();
}

void ClientCall::OnCancelled() {
  {
    absl::MutexLock lock(&mutex_);
    cancelled_ = true;
  }
  Leave();
  Wake();
}

void ClientCall::Leave() {
  std::function<void()> gone;
  {
    absl::MutexLock lock(&mutex_);
    gone = std::exchange(gone_, nullptr);
  }
  if (gone) gone();
}

void ClientCall::CheckStall(absl::Duration stall) {
  // Under the lock: while it is not finished, the transport is there.
  absl::MutexLock lock(&mutex_);
  if (writing_ && !finished_ && clock_.Now() >= write_began_ + stall) transport_.cancel();
}

void ClientCall::Finish(const absl::Status& status) {
  Leave();
  transport_.finish(ToGrpc(status.ok() ? status : WithRequestId(status, request_id_)));
}

}  // namespace conclave::router
