#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/status/status.h>
#include <absl/synchronization/mutex.h>

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "common/clock.h"
#include "common/timer_thread.h"
#include "router/admission/admission.h"
#include "router/api/task_pool.h"
#include "router/contemplation/client_outbox.h"
#include "router/contemplation/family.h"
#include "router/fleet/fleet.h"

namespace conclave::router {

// What every generation uses. All of it outlives them.
struct GenerationParts {
  Fleet& fleet;
  TaskPool& tasks;
  TimerThread& timers;
  Clock& clock;
  absl::Duration place_patience;  // How long a family waits for a group to appear or have room.
};

// One request that runs: gives Contemplation its events, one after another on the task pool, and
// does what it commands. Owned by shared_ptr: its client, timers and streams hold it. Thread-safe.
class Generation : public std::enable_shared_from_this<Generation> {
 public:
  // `wake` is called, without a lock, whenever NextEvent or end() may give something new.
  Generation(const GenerationParts& parts, Plan plan, const Limits& limits, Ticket ticket,
             std::function<void()> wake);
  ~Generation();

  void Start();
  // The client is gone: everything is cancelled.
  void Abandon();

  // The next event for the client; nullopt when none waits.
  std::optional<ClientEvent> NextEvent();
  // How the request ended, once it has and every event was taken.
  std::optional<absl::Status> end();

 private:
  class Stream;
  struct GroupFound {
    int attempt = 0, group = 0;
  };
  struct PlaceGivenUp {
    int attempt = 0;
  };
  using Item = std::variant<decltype(Event::what), GroupFound, PlaceGivenUp>;

  void Post(Item item);
  void Drain();
  void Handle(Item item);
  void Feed(decltype(Event::what) what);
  void Do(OpenRun& command);
  void Do(AddGang& command);
  void Do(CancelAgents& command);
  void Do(RaiseRunTo& command);
  void Do(FinishRun&);
  void Do(CloseRun&);
  void Do(Emit& command);
  void Do(WakeAt& command);
  void Do(Succeed&) { End(absl::OkStatus()); }
  void Do(Fail& command) { End(command.why); }
  void Found(const GroupFound& found);
  void End(const absl::Status& status);

  const GenerationParts parts_;
  const std::function<void()> wake_;

  // Of the task that runs.
  Contemplation contemplation_;
  std::optional<Ticket> ticket_;
  std::optional<OpenRun> opening_;  // Waits for a place.
  PlacementQuestion question_;
  std::unique_ptr<Fleet::Waiting> waiting_;
  std::unique_ptr<FamilyRun> run_;
  TimerThread::Id timer_ = 0, place_timer_ = 0;
  int64_t used_tokens_ = 0;

  absl::Mutex mutex_;
  std::deque<Item> mailbox_ ABSL_GUARDED_BY(mutex_);
  bool scheduled_ ABSL_GUARDED_BY(mutex_) = false;
  ClientOutbox outbox_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace conclave::router
