#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/status/statusor.h>
#include <absl/synchronization/mutex.h>

#include <functional>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "common/log.h"
#include "common/metrics.h"
#include "router/fleet/placement.h"
#include "router/fleet/worker_client.h"

namespace conclave::router {

// A group that may be asked, by its address.
struct FleetMember {
  std::string address;
  std::unique_ptr<WorkerClient> client;
};

// The worker groups: who is there, what they serve, how full they are, and which one takes a
// family. Thread-safe. No lock is held while anybody's callback runs.
class Fleet {
 public:
  // Begins to watch all of them. `metrics` must outlive it.
  Fleet(std::vector<FleetMember> members, Logger logger, Metrics& metrics);
  ~Fleet();

  Fleet(const Fleet&) = delete;
  Fleet& operator=(const Fleet&) = delete;

  // A moment's view; the index is the group's number.
  std::vector<GroupView> View() const;

  // What is served under `name` (empty: the only model), with this fingerprint (empty: any). Groups
  // that were met count even while they are gone. kUnavailable: none was met yet. kNotFound: no
  // such model. kAborted: none of its groups has the fingerprint. kInvalidArgument: empty, and
  // there are several.
  absl::StatusOr<ModelDescription> FindModel(const std::string& name,
                                             const std::string& fingerprint = "") const;

  WorkerClient& client(int group);
  const std::string& address(int group) const;

  // Waits for a place while it lives.
  class Waiting;

  // Calls `placed` once with the group's number, from any thread, possibly before it returns; the
  // agents asked for are taken off the group's credits. Asked in order of arrival; who fits is
  // placed. No call after the handle's destructor has returned; it must not be destroyed from
  // within the call.
  std::unique_ptr<Waiting> Place(PlacementQuestion question, std::function<void(int group)> placed);

  // Why `question` finds no place now, with RetryInfo: kUnavailable (nobody serves it) or
  // kResourceExhausted (nobody has room).
  absl::Status WhyNot(const PlacementQuestion& question) const;

  // "group 127.0.0.1:7001 was lost: ...": what broke a stream on it. Counts the loss; a group
  // without room (kResourceExhausted) was not lost, and the words say so.
  std::string LossWords(int group, const absl::Status& why);
  // "group 127.0.0.1:7001 serves as epoch 4 (it was lost before: rank 1 was killed by signal 9)".
  std::string ReturnWords(int group) const;

 private:
  struct Group;
  struct Waiter;

  void Changed();
  std::shared_ptr<Waiter> NextPlaced();

  const Logger logger_;
  Gauge waiting_;

  mutable absl::Mutex mutex_;
  // Shared with the handles that wait.
  std::list<std::shared_ptr<Waiter>> waiters_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::unique_ptr<Group>> groups_;  // Fixed; what changes inside is guarded by mutex_.
};

// Gives up the place in the queue when destroyed.
class Fleet::Waiting {
 public:
  ~Waiting();

 private:
  friend class Fleet;
  Waiting(Fleet& fleet, std::shared_ptr<Waiter> waiter)
      : fleet_(fleet), waiter_(std::move(waiter)) {}

  Fleet& fleet_;
  const std::shared_ptr<Waiter> waiter_;  // Shared with the fleet's queue.
};

}  // namespace conclave::router
