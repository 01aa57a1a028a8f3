#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/status/status.h>
#include <absl/synchronization/mutex.h>

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "common/clock.h"
#include "common/timer_thread.h"
#include "router/admission/admission.h"
#include "router/api/answer_gate.h"
#include "router/api/attempt.h"
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

class KeptRequests;

// Where a generation keeps its log, and on whose account. Nowhere: it keeps none.
struct LogPlace {
  KeptRequests* kept = nullptr;
  std::string tenant;
};

// Who wants to know of a generation. Called by its task, without a lock, before its client can
// learn of it.
struct GenerationHooks {
  std::function<void(absl::Duration)> on_first_token;  // Once, if one comes: after admission.
  std::function<void(const ClientEvent&)> on_event;    // Each, whatever the client includes.
  std::function<void(const absl::Status&, const Bill&)> on_end;  // Once, last.
};

// One request that runs: gives Contemplation its events, one after another on the task pool, and
// does what it commands. Owned by shared_ptr: its client, timers and streams hold it. Thread-safe.
//
// It has one client at a time, named by the number that Attach gave it. One that keeps a log tells
// a further client everything from the beginning (deltas merged), but for the answer's bytes that
// this client holds. It keeps none when `kept` is null, or gave no bytes for it.
class Generation : public std::enable_shared_from_this<Generation> {
 public:
  Generation(const GenerationParts& parts, Plan plan, const Limits& limits, Ticket ticket,
             GenerationHooks hooks, LogPlace log);
  ~Generation();

  void Start();
  // Nobody wants it any more: everything is cancelled. It must be held until it has ended, which
  // takes receipt_wait at most: then its bill is what its groups counted.
  void Abandon();
  // Ends it now, whatever it still waits for, and returns when it has ended: nothing that its
  // streams say can be the last to hold it then. Not from a task or an event.
  void Close();
  // The best answer so far, now. kFailedPrecondition: it is a replay, which takes the decisions
  // that it was given.
  absl::Status Stop();

  struct Attached {
    int client = 0;
    std::function<void()> former;  // The former client's `wake`, to be called once; may be empty.
  };
  // A client takes its stream; a former one's ends with kAborted. `wake` is called, without a lock,
  // whenever NextEvent or End may give something new. kAborted, and nothing changes: the log's
  // answer does not begin with what is held. The first client's `held` is compared as the answer
  // comes, and the stream ends with kAborted when it differs. kNotFound for a further client: it
  // keeps no log.
  absl::StatusOr<Attached> Attach(const std::optional<HeldAnswer>& held,
                                  std::function<void()> wake);
  // The client is gone. False: it was not the present one.
  bool Detach(int client);

  // The next event for the client; nullopt when none waits.
  std::optional<ClientEvent> NextEvent(int client);
  // How the client's stream ended, once it has and every event was taken.
  std::optional<absl::Status> End(int client);

  // These wait for nobody: KeptRequests looks while another thread copies the log.
  bool ended() const { return ended_.load(); }
  bool attached() const { return attached_.load(); }
  bool has_log() const { return has_log_.load(); }  // Whether a further client may attach.

 private:
  struct Closing {
    std::shared_ptr<void> seen;  // Whoever waits is told when it is gone, obeyed or not.
  };
  using Item = std::variant<decltype(Event::what), Attempt::News, Closing>;

  void Post(Item item);
  void Drain();
  void Handle(Item item);
  void Feed(decltype(Event::what) what);
  void NoteFirstToken(const decltype(Event::what)& what);
  void Do(OpenRun& command);
  void Do(AddGang& command);
  void Do(CancelAgents& command);
  void Do(RaiseRunTo& command);
  void Do(FinishRun& command);
  void Do(CloseRun&);
  void Do(Emit& command);
  void Do(WakeAt& command);
  void Do(Succeed&) { Conclude(absl::OkStatus()); }
  void Do(Fail& command) {
    bill_ = command.bill;
    Conclude(command.why);
  }
  void Conclude(const absl::Status& status);
  void Wake();
  // What it takes to log the event; without bytes for it the log is given up.
  int64_t TakeBytes(const ClientEvent& event);
  void Log(const ClientEvent& event, int64_t bytes) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ForgetLog();
  // Of the event, what the client lacks.
  absl::Status Tell(ClientEvent event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const GenerationParts parts_;
  const GenerationHooks hooks_;
  const LogPlace log_place_;
  const bool replays_;
  const bool wants_load_;  // Agents of it may wait for room, or be too dear.

  // Of the task that runs.
  std::optional<Contemplation> contemplation_;  // None: it has ended.
  std::optional<Ticket> ticket_;
  PlacementQuestion question_;  // What is known of the prompt.
  std::unique_ptr<Attempt> attempt_;
  TimerThread::Id timer_ = 0;
  Bill bill_;  // Once it is known.
  const absl::Time admitted_;
  bool spoke_ = false;  // A token came.

  mutable absl::Mutex mutex_;
  std::deque<Item> mailbox_ ABSL_GUARDED_BY(mutex_);
  bool scheduled_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
  // Written under the lock, read also without it.
  std::atomic<bool> ended_{false}, attached_{false}, has_log_{false};

  int clients_ ABSL_GUARDED_BY(mutex_) = 0;  // That ever attached: the last one's number.
  std::function<void()> wake_ ABSL_GUARDED_BY(mutex_);  // Empty: nobody is there.
  AnswerGate gate_ ABSL_GUARDED_BY(mutex_);
  ClientOutbox outbox_ ABSL_GUARDED_BY(mutex_);
  absl::Status differs_ ABSL_GUARDED_BY(mutex_);  // Why the client's stream ended before.

  std::optional<ClientOutbox> log_ ABSL_GUARDED_BY(mutex_);  // Never popped.
  std::string answer_ ABSL_GUARDED_BY(mutex_);               // As far as the log has it.
  int64_t log_bytes_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace conclave::router
