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
#include "router/api/kept_requests.h"
#include "router/api/task_pool.h"
#include "router/contemplation/plan.h"
#include "router/fleet/fleet.h"

namespace conclave::router {

struct ServiceOptions {
  Limits limits;
  absl::Duration place_patience = absl::Seconds(20);  // For a group to appear or have room.
  absl::Duration client_stall =
      absl::Seconds(60);  // A client that reads nothing for this long is cancelled.
  KeepOptions keep;
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

  // Cancels clients that have not read for too long, refuses requests that waited too long, and
  // lets go of kept ones whose time is up. Call it every second.
  void Sweep();
  // Lets go of all requests whose client is gone. After the server's shutdown none is held.
  void LetGo();

 private:
  class Service;
  std::unique_ptr<Service> service_;
};

}  // namespace conclave::router
