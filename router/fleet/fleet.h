#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/status/statusor.h>
#include <absl/synchronization/mutex.h>

#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/clock.h"
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

// How long a group that lost families rests: doubling with each loss from the first to the second.
// A family that ended well on it, and a time as long as `most` after its rest, make it as new.
// Losses while it rests are the same one.
struct LossBackoff {
  absl::Duration least = absl::Milliseconds(500);
  absl::Duration most = absl::Seconds(30);
};

// The worker groups: who is there, what they serve, how full they are, and which one takes a
// family. Groups have numbers, which no other group ever gets. One that is no longer a member takes
// no new family, keeps those that it has, and is forgotten when none is left. Thread-safe. No lock
// is held while anybody's callback runs.
class Fleet {
 public:
  // Begins to watch all of them. `metrics` and `clock` must outlive it.
  Fleet(std::vector<FleetMember> members, Logger logger, Metrics& metrics, Clock& clock,
        LossBackoff backoff = {});
  ~Fleet();

  Fleet(const Fleet&) = delete;
  Fleet& operator=(const Fleet&) = delete;

  using MakeClient = std::function<std::unique_ptr<WorkerClient>(const std::string& address)>;
  // From now on the members are those at `addresses`; `make` gives the clients of new ones. One
  // caller at a time; not from a group's event.
  void SetMembers(const std::vector<std::string>& addresses, const MakeClient& make);

  // A moment's view of all groups, in order of their numbers.
  std::vector<GroupView> View() const;
  // Of one; of a forgotten one without a description.
  GroupView View(int group) const;

  // What is served under `name` (empty: the only model), with this fingerprint. Empty: the one that
  // most groups have that are ready, the lesser one of two. Groups that were met count even while
  // they are gone. kUnavailable: none was met yet. kNotFound: no such model. kAborted: none of its
  // groups has the fingerprint. kInvalidArgument: empty, and there are several.
  absl::StatusOr<ModelDescription> FindModel(const std::string& name,
                                             const std::string& fingerprint = "") const;

  // What a group says of its places: called when they change, from any thread; it must not block.
  // A call that has begun when the run is destroyed may end after it.
  using LoadListener = std::function<void(const GroupLoad&)>;
  // As WorkerClient does. Of a forgotten group: `events` learns at once that it is lost, and
  // there is no run; or kUnavailable. The run must not outlive the fleet.
  std::unique_ptr<FamilyRun> Open(int group, FamilyOpening opening,
                                  std::shared_ptr<FamilyEvents> events, LoadListener on_load = {});
  void Count(int group, PromptQuestion question, std::function<void(absl::StatusOr<int>)> done);
  void Render(int group, PromptQuestion question, std::function<void(absl::StatusOr<Prompt>)> done);

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

  // "group 127.0.0.1:7001 was lost: ...": what broke a stream on it. Counts the loss, and lets the
  // group rest when it may be the group's fault; a group without room (kResourceExhausted) was not
  // lost, and the words say so.
  std::string LossWords(int group, const absl::Status& why);
  // "group 127.0.0.1:7001 serves as epoch 4 (it was lost before: rank 1 was killed by signal 9)".
  std::string ReturnWords(int group) const;

 private:
  class SeatedEvents;
  class SeatedRun;
  struct Group;
  struct Waiter;

  std::shared_ptr<Group> Find(int group) const ABSL_LOCKS_EXCLUDED(mutex_);
  void Add(FleetMember member) ABSL_LOCKS_EXCLUDED(mutex_);
  void ListViews() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Changed(const Group* group) ABSL_LOCKS_EXCLUDED(mutex_);
  std::shared_ptr<Waiter> NextPlaced(const Group* group) ABSL_LOCKS_EXCLUDED(mutex_);
  bool FindPlace(Waiter& waiter) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Call(Waiter& waiter) ABSL_LOCKS_EXCLUDED(mutex_);
  void EndedWell(Group& group) ABSL_LOCKS_EXCLUDED(mutex_);
  void Rest(Group& group) ABSL_LOCKS_EXCLUDED(mutex_);

  const Logger logger_;
  Metrics& metrics_;
  Clock& clock_;
  const LossBackoff backoff_;
  Gauge waiting_, members_, leaving_;

  mutable absl::Mutex mutex_;
  // Shared with the handles that wait.
  std::list<std::shared_ptr<Waiter>> waiters_ ABSL_GUARDED_BY(mutex_);
  // Shared with their families; what changes inside is guarded by mutex_ too.
  std::map<int, std::shared_ptr<Group>> groups_ ABSL_GUARDED_BY(mutex_);
  std::vector<const GroupView*> views_ ABSL_GUARDED_BY(mutex_);  // Theirs, in order.
  int last_number_ ABSL_GUARDED_BY(mutex_) = -1;
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
