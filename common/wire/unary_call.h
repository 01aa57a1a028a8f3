#pragma once

#include <absl/status/status.h>
#include <grpcpp/grpcpp.h>

#include <functional>
#include <utility>

#include "common/wire/grpc_status.h"
#include "common/wire/raw_message.h"

namespace conclave {

// One call of a raw unary method, from its bytes to its bytes. Deletes itself in OnDone, and only
// there.
template <typename Request, typename Response>
class UnaryCall final : public grpc::ServerUnaryReactor {
 public:
  using Done = std::function<void(const absl::Status&)>;

  // `may`: why the caller may not ask; nothing is read then. `work(request, response, done)` calls
  // `done` once, now or later, from any thread; request and response live until then. `out` lives
  // as long as the call.
  template <typename Work>
  UnaryCall(const absl::Status& may, grpc::ByteBuffer in, grpc::ByteBuffer& out, const Work& work)
      : out_(out) {
    absl::Status status = may;
    if (status.ok()) status = ReadMessage(in, request_);
    if (status.ok()) {
      work(std::as_const(request_), response_, Done([this](const auto& how) { End(how); }));
    } else {
      End(status);
    }
  }

  void OnDone() override { delete this; }

 private:
  void End(const absl::Status& how) {
    if (how.ok()) WriteMessage(response_, out_);
    Finish(ToGrpc(how));
  }

  grpc::ByteBuffer& out_;
  Request request_;
  Response response_;
};

}  // namespace conclave
