#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/status/status.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "common/log.h"
#include "common/metrics.h"
#include "common/model_description.h"
#include "worker/engine/engine.h"
#include "worker/text/text_model.h"

namespace conclave::worker {

struct ServiceOptions {
  int vocab_size = 0;  // The group's: ids at or above it are refused.
  int max_families = 256;
  int render_threads = 2;
  int max_batched_tokens = 512;                   // The engine's: a measure of what may queue.
  absl::Duration retry_after = absl::Seconds(1);  // Told to routers that are refused.
  absl::Duration pulse = absl::Milliseconds(20);  // Load is published at most this often,
  absl::Duration heartbeat = absl::Seconds(1);    // and at least this often.
  int64_t epoch = 1;
  std::string last_loss;  // Why the epoch before this one ended.
  int64_t losses = 0;     // Of the epochs before.
};

// What the service tells the process around it. Called on the service's own thread; may be empty.
struct ServiceHooks {
  std::function<void(bool ready)> on_pulse;  // At every turn of the service's loop.
  std::function<bool()> launcher_silent;     // While it gives true no family is taken.
  // Once, when the engine's group is lost: every stream was ended with UNAVAILABLE. The process
  // should end at once.
  std::function<void(const absl::Status& why)> on_lost;
};

// The worker API (worker.proto) over one engine. Rendering and tokenising run on a small pool; a
// thread of its own, the pulse, publishes the load, watches the engine's health, and feeds the
// metrics. `engine`, `text` and `metrics` must outlive it; the gRPC server that serves rpc() must
// be shut down before it is destroyed.
class WorkerService {
 public:
  WorkerService(ServiceOptions options, ModelDescription model, Engine& engine,
                const TextModel& text, Metrics& metrics, Logger log, ServiceHooks hooks = {});
  ~WorkerService();
  WorkerService(const WorkerService&) = delete;
  WorkerService& operator=(const WorkerService&) = delete;

  grpc::Service* rpc();

  // Refuses new families with UNAVAILABLE and waits at most `timeout` for those that are here; then
  // breaks the rest, and ends the load streams. True when all of them ended by themselves.
  bool Drain(absl::Duration timeout);

 private:
  class Rpc;
  struct Parts;

  void Pulse();
  void Turn();
  bool Closing() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return closing_; }

  const ServiceOptions options_;
  const ServiceHooks hooks_;
  Engine& engine_;
  std::unique_ptr<Parts> parts_;
  std::atomic<bool> draining_{false};
  absl::Status lost_;          // The pulse's.
  std::optional<bool> ready_;  // The pulse's: what was last told.
  absl::Mutex mutex_;
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread pulse_;  // Last: it uses all of the above.
};

}  // namespace conclave::worker
