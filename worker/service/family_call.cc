#include "worker/service/family_call.h"

#include "common/status.h"
#include "common/wire/grpc_status.h"
#include "common/wire/raw_message.h"

namespace conclave::worker {
namespace {

absl::StatusOr<v1::RunRequest> Parse(grpc::ByteBuffer& bytes) {
  v1::RunRequest request;
  RETURN_IF_ERROR(ReadMessage(bytes, request));
  return request;
}

}  // namespace

FamilyCall::FamilyCall(FamilyHost& host)
    : session_(std::make_shared<FamilySession>(
          host,
          FamilyWire{.read = [this] { StartRead(&in_); },
                     .write = [this](const FamilyEvent& event) { Write(event); },
                     .finish = [this](const absl::Status& status) { Finish(ToGrpc(status)); }})) {
  session_->Start();
}

void FamilyCall::Write(const FamilyEvent& event) {
  WriteMessage(ToWire(event), out_);
  StartWrite(&out_);
}

void FamilyCall::OnReadDone(bool ok) {
  if (ok) {
    session_->OnRequest(Parse(in_));
  } else {
    session_->OnHalfClose();
  }
}

void FamilyCall::OnWriteDone(bool ok) { session_->OnWritten(ok); }

void FamilyCall::OnCancel() { session_->Break(Cancelled("the router broke the stream")); }

void FamilyCall::OnDone() { delete this; }

}  // namespace conclave::worker
