#include "router/api/client_call.h"

#include <utility>

#include "common/status.h"
#include "common/status_details.h"
#include "common/wire/grpc_status.h"
#include "router/api/event_wire.h"

namespace conclave::router {

ClientCall::ClientCall(Transport transport, Clock& clock, std::string request_id)
    : transport_(std::move(transport)), clock_(clock), request_id_(std::move(request_id)) {}

void ClientCall::Attach(std::shared_ptr<Generation> generation) {
  bool cancelled = false;
  {
    absl::MutexLock lock(&mutex_);
    generation_ = generation;
    cancelled = cancelled_;
  }
  generation->Start();
  if (cancelled) generation->Abandon();
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
    if (const auto event = cancelled_ ? std::nullopt : generation_->NextEvent()) {
      message_ = ToWire(*event);
      writing_ = true;
      write_began_ = clock_.Now();
    } else {
      end = cancelled_ ? std::optional(absl::Status(Cancelled("the client is gone")))
                       : generation_->end();
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
  std::shared_ptr<Generation> generation;
  {
    absl::MutexLock lock(&mutex_);
    cancelled_ = true;
    generation = generation_;
  }
  if (generation != nullptr) generation->Abandon();
  Wake();
}

void ClientCall::CheckStall(absl::Duration stall) {
  // Under the lock: while it is not finished, the transport is there.
  absl::MutexLock lock(&mutex_);
  if (writing_ && !finished_ && clock_.Now() >= write_began_ + stall) transport_.cancel();
}

void ClientCall::Finish(const absl::Status& status) {
  transport_.finish(ToGrpc(status.ok() ? status : WithRequestId(status, request_id_)));
}

}  // namespace conclave::router
