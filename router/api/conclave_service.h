#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>
#include <grpcpp/grpcpp.h>

#include <memory>
#include <set>

#include "common/clock.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/timer_thread.h"
#include "router/admission/admission.h"
#include "router/admission/keys.h"
#include "router/api/task_pool.h"
#include "router/contemplation/plan.h"
#include "router/fleet/fleet.h"

namespace conclave::router {

struct ServiceOptions {
  Limits limits;
  absl::Duration place_patience = absl::Seconds(20);  // For a group to appear or have room.
  absl::Duration client_stall =
      absl::Seconds(60);  // A client that reads nothing for this long is cancelled.
};

// What the service is made of. All of it outlives the service.
struct ServiceParts {
  const Keys& keys;
  Admission& admission;
  Fleet& fleet;
  TaskPool& tasks;
  TimerThread& timers;
  Clock& clock;
  Metrics& metrics;
  Logger log;
};

// The public API. Every handler begins with admission: who calls (an interceptor could not end a
// call), then, for what costs work, a ticket. Thread-safe. The server must be shut down before it
// is destroyed.
class ConclaveRpc {
 public:
  ConclaveRpc(ServiceOptions options, ServiceParts parts);
  ~ConclaveRpc();
  ConclaveRpc(const ConclaveRpc&) = delete;
  ConclaveRpc& operator=(const ConclaveRpc&) = delete;

  grpc::Service* rpc();

  // Cancels clients that have not read for too long, and refuses requests that waited too long.
  // Call it every second.
  void Sweep();

 private:
  class Service;
  std::unique_ptr<Service> service_;
};

}  // namespace conclave::router
