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
  int max_requests = 256;                      // Whose client is gone.
  ByteSize max_bytes{64 << 20};                // Of the logs of all requests that keep one.

  bool operator==(const KeepOptions&) const = default;
};

// A caller's request: ids of different tenants have nothing to do with each other.
struct RequestName {
  std::string tenant, id;

  auto operator<=>(const RequestName&) const = default;
};

// The requests that were admitted here, by name, until their client's stream has ended; those with
// a keep_for live on for that long, whether they still run or have ended. When there is no room,
// those that have ended go first: of the tenant that has most of what is short (bytes, or places
// of requests without a client) the one whose client left first.
// Thread-safe; no lock is held while a generation is called that calls back.
class KeptRequests {
 public:
  KeptRequests(KeepOptions options, Metrics& metrics);
  // No generation may run any more.
  ~KeptRequests();

  // kAlreadyExists: one of this name runs and keeps a log, so a second one could not be told from
  // it.
  absl::Status CheckNew(const RequestName& name) const;
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
  // Its client's stream has ended. It lives on, or is abandoned; nothing happens when `client` is
  // not its present one.
  void ClientGone(const RequestName& name, const std::shared_ptr<Generation>& generation,
                  int client, absl::Time now);
  // Tells those of this name that run to give the best answer so far. kNotFound: none does.
  absl::Status Stop(const RequestName& name) const;

  // Lets go of those whose time is up. Call it every second.
  void Expire(absl::Time now);
  // Lets go of all whose client is gone.
  void LetGo() { Expire(absl::InfiniteFuture()); }

  // Bytes for a log. False: there are none, though all that may make way has.
  bool Take(int64_t bytes);
  void Give(int64_t bytes);

 private:
  struct Entry {
    std::shared_ptr<Generation> generation;  // Shared with its client, timers and streams.
    absl::Duration keep_for;
    std::optional<absl::Time> gone;  // When its client left; none: one is attached.
  };
  using Entries = std::multimap<RequestName, Entry>;
  // What leaves is destroyed by the caller, without the lock.
  using Leaving = std::vector<std::shared_ptr<Generation>>;

  // The last one of this name that keeps a log.
  Entries::const_iterator Kept(const RequestName& name) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status CheckNewLocked(const RequestName& name) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What there is no more room for.
  enum class Short : uint8_t { kPlaces, kBytes };
  // Takes out the one that makes way first; null: none may.
  std::shared_ptr<Generation> TakeEnded(Short what) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetGauges() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const KeepOptions options_;
  Counter outlived_;
  Gauge kept_, log_bytes_;
  mutable absl::Mutex mutex_;
  Entries entries_ ABSL_GUARDED_BY(mutex_);
  int gone_ ABSL_GUARDED_BY(mutex_) = 0;  // Entries without a client.
  int64_t bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace conclave::router
