#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>
#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <optional>

#include "common/clock.h"
#include "conclave/v1/conclave.pb.h"
#include "router/api/generation.h"

namespace conclave::router {

// The client's end of one streamed request: takes events from its generation while the client
// reads, ends the call once. Shared by the reactor (until OnDone) and the generation's wake-ups.
// Thread-safe; no lock is held across a call out.
class ClientCall {
 public:
  // How the transport is used; set by the reactor.
  struct Transport {
    std::function<void(const v1::GenerateResponse*)> write;  // Answered by OnWritten.
    std::function<void(const grpc::Status&)> finish;         // Once; nothing is used after it.
    std::function<void()> cancel;                            // Ends the call from this side.
  };
  ClientCall(Transport transport, Clock& clock, std::string request_id);

  // The request entered, or its stream is taken up: `client` is its number there. `gone` is called
  // once, without a lock, when the stream ends or the client is gone.
  void Attach(std::shared_ptr<Generation> generation, int client, std::function<void()> gone);
  // It never did.
  void Refuse(const absl::Status& why);
  // Something may be there to write.
  void Wake();
  void OnWritten(bool ok);
  void OnCancelled();
  // Cancels when one write has taken longer than `stall`.
  void CheckStall(absl::Duration stall);

 private:
  void Leave();
  void Finish(const absl::Status& status);

  const Transport transport_;
  Clock& clock_;
  const std::string request_id_;
  v1::GenerateResponse message_;  // Of the write in flight.

  absl::Mutex mutex_;
  std::shared_ptr<Generation> generation_ ABSL_GUARDED_BY(mutex_);  // Shared: it runs on its own.
  int client_ ABSL_GUARDED_BY(mutex_) = 0;
  std::function<void()> gone_ ABSL_GUARDED_BY(mutex_);  // Empty: none, or called.
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Time write_began_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace conclave::router
