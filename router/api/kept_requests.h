#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/config.h"
#include "common/metrics.h"
#include "router/api/answer_gate.h"

namespace conclave::router {

class Generation;

struct KeepOptions {
  absl::Duration longest = absl::Seconds(60);  // Caps keep_for. 0: nothing is kept.
  // Of all tenants together; one alone has at most half of each (see KeptRequests).
  int max_requests = 256;        // Whose client is gone.
  ByteSize max_bytes{64 << 20};  // Of the logs of all requests that keep one.

  bool operator==(const KeepOptions&) const = default;
};

// A caller's request: ids of different tenants have nothing to do with each other.
struct RequestName {
  std::string tenant, id;

  auto operator<=>(const RequestName&) const = default;
};

// The requests that were admitted here, by name, until their client's stream has ended; those with
// a keep_for live on for that long, whether they still run or have ended.
//
// No tenant pushes out another one: of bytes, and of places of requests without a client, it may
// hold as much as is left free (the dynamic threshold of shared-memory switches: Choudhury and
// Hahne, 1998). So n tenants that want all get 1 / (n + 1) each, and there is room for whoever
// comes next. Beyond that, what has ended of its own goes, the one whose client left first.
//
// Thread-safe. Its lock is held for look-ups and numbers only: never while a log is copied or a
// generation's lock is waited for, so no request holds up another.
class KeptRequests {
 public:
  KeptRequests(KeepOptions options, Metrics& metrics);
  // No generation may run any more.
  ~KeptRequests();

  // kAlreadyExists: one of this name runs and keeps a log, so a second one could not be told from
  // it.
  absl::Status CheckNew(const RequestName& name);
  // As CheckNew; then it is started, and known by its name. One that has ended and was kept makes
  // way. REQUIRES: a client is attached to it.
  absl::Status Add(const RequestName& name, std::shared_ptr<Generation> generation,
                   absl::Duration keep_for);
  struct TakenUp {
    std::shared_ptr<Generation> generation;
    int client = 0;
  };
  // A further client takes the stream of this name up. kNotFound: none is held; kAborted as in
  // Generation::Attach.
  absl::StatusOr<TakenUp> TakeUp(const RequestName& name, const HeldAnswer& held,
                                 std::function<void()> wake);
  // Its client's stream has ended. It lives on, or is abandoned, and is held until it has ended;
  // nothing happens when `client` is not its present one.
  void ClientGone(const RequestName& name, const std::shared_ptr<Generation>& generation,
                  int client, absl::Time now);
  // Tells those of this name that run to give the best answer so far. kNotFound: none does.
  absl::Status Stop(const RequestName& name);

  // Lets go of those whose time is up. Call it every second.
  void Expire(absl::Time now);
  // Lets go of all whose client is gone.
  void LetGo();

  // Bytes for a log. False: there are none, though all that may make way has.
  bool Take(const std::string& tenant, int64_t bytes);
  void Give(const std::string& tenant, int64_t bytes);

 private:
  struct Entry {
    std::shared_ptr<Generation> generation;  // Shared with its client, timers and streams.
    absl::Duration keep_for;
    std::optional<absl::Time> gone;  // When its client left; none: one is attached.
    int takers = 0;                  // Calls that are taking it up: it stays for them.

    bool idle() const { return gone.has_value() && takers == 0; }
  };
  // What all tenants share, and who holds how much of it.
  struct Shared {
    int64_t total = 0;
    std::map<std::string, int64_t> held;  // No zeros.

    bool MayTake(const std::string& tenant, int64_t more, int64_t limit) const;
    void Add(const std::string& tenant, int64_t more);
  };
  using Entries = std::multimap<RequestName, Entry>;

  // The last one of this name that keeps a log.
  Entries::iterator Kept(const RequestName& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckNewLocked(const RequestName& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Takes out the tenant's one that makes way first; null: none may. What is taken out is destroyed
  // by the caller, without the lock.
  std::shared_ptr<Generation> TakeEnded(const std::string& tenant)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::shared_ptr<Generation> TakeOut(Entries::iterator entry)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetGone(Entries::iterator entry, std::optional<absl::Time> when)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetGauges() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Nobody will ask for them any more. Without the lock.
  void Abandon(std::vector<std::shared_ptr<Generation>> leaving);

  const KeepOptions options_;
  Counter outlived_;
  Gauge kept_, log_bytes_;
  absl::Mutex mutex_;
  Entries entries_ ABSL_GUARDED_BY(mutex_);
  // Abandoned, and held until they have ended. (Nobody else would.)
  std::vector<std::shared_ptr<Generation>> ending_ ABSL_GUARDED_BY(mutex_);
  Shared places_ ABSL_GUARDED_BY(mutex_);  // Of entries without a client.
  Shared bytes_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace conclave::router
