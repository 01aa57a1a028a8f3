#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>

#include "worker/service/family_session.h"

namespace conclave::worker {

// The gRPC call that carries one family. It reads raw bytes, because gRPC reports a message that
// can't be parsed as if the peer had closed its side: a broken peer would look like a finished one.
// Deletes itself in OnDone, and only there.
class FamilyCall final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  explicit FamilyCall(FamilyHost& host);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  void Write(const FamilyEvent& event);

  grpc::ByteBuffer in_, out_;               // Of the read and the write in progress.
  std::shared_ptr<FamilySession> session_;  // Shared with the engine, which may keep it longer.
};

}  // namespace conclave::worker
