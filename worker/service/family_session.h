#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/synchronization/mutex.h>

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "conclave/v1/worker.pb.h"
#include "worker/engine/engine.h"
#include "worker/service/family_host.h"
#include "worker/service/outbox.h"

namespace conclave::worker {

// What a session asks of the call that carries it. Each read ends in exactly one OnRequest or
// OnHalfClose, each write in one OnWritten. After `finish` nothing is asked any more.
struct FamilyWire {
  std::function<void()> read;
  std::function<void(const FamilyEvent&)> write;
  std::function<void(const absl::Status&)> finish;
};

// One family's stream, from its opening to its end: commands in, events out, the worker's side of
// exact_rules' family stream. Knows no gRPC; thread-safe; no lock is held while it calls out.
//
// Three kinds of threads meet here: the call's (commands, writes done), the pool's (which renders
// the gangs, one at a time, while no further command is read) and the engine's, which never waits:
// it leaves events in the outbox, and at most starts a write.
//
// Shared by the call, by jobs of the pool and by the engine, which may keep it until OnFamilyEnd.
// After `finish` the session touches neither wire nor host.
class FamilySession final : public FamilySink, public std::enable_shared_from_this<FamilySession> {
 public:
  FamilySession(FamilyHost& host, FamilyWire wire);
  ~FamilySession() override;

  // Asks for the first command.
  void Start();
  // A message arrived. An error (the bytes are no RunRequest) ends the stream.
  void OnRequest(absl::StatusOr<v1::RunRequest> request);
  // The router will say no more.
  void OnHalfClose();
  void OnWritten(bool ok);
  // Ends the stream without a FamilyEnd and releases the family: the call broke, the group is lost,
  // or the drain is over.
  void Break(const absl::Status& why);

  // FamilySink: by the engine.
  void OnAccepted(const std::vector<AgentId>& gang) override;
  void OnRefused(const std::vector<AgentId>& gang, const absl::Status& why, int width) override;
  void OnTokens(AgentId agent, int first, const std::vector<TokenEvent>& tokens,
                const std::optional<AgentEnd>& end) override;
  void OnProbe(AgentId agent, int at, const std::vector<TokenEvent>& tokens) override;
  void OnFamilyEnd(const FamilyCounters& counters) override;

 private:
  // An Add that was not answered yet: the engine has it, or it was refused here and waits for its
  // turn behind those.
  using PendingGang = std::variant<std::vector<TracedAgent>, GangRefused>;

  void CommandDone(const absl::Status& status);
  absl::Status Obey(const FamilyCommand& command);
  absl::Status Open(const FamilyOpening& opening);
  void AddGang(const std::vector<AgentRecipe>& recipes);
  void RefuseGang(GangRefused refused);
  void FlushRefusals() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Advance();

  FamilyHost& host_;
  Engine& engine_;
  const FamilyWire wire_;
  std::atomic<bool> ending_soon_{false};  // What `ending_` says, for a rendering in progress.

  // Touched only while `busy_` is set by the thread that set it, and by Advance when it is not.
  std::unique_ptr<FamilyStream> stream_;
  std::optional<FamilyOpening> opening_;

  absl::Mutex mutex_;
  Outbox outbox_ ABSL_GUARDED_BY(mutex_);
  std::deque<PendingGang> pending_ ABSL_GUARDED_BY(mutex_);
  std::map<AgentId, TracedAgent> agents_ ABSL_GUARDED_BY(mutex_);  // Accepted and not ended.
  bool reading_ ABSL_GUARDED_BY(mutex_) = false;                   // A read was asked for.
  bool busy_ ABSL_GUARDED_BY(mutex_) = false;                      // A command is being obeyed.
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;                   // A write was asked for.
  int calls_out_ ABSL_GUARDED_BY(mutex_) = 0;                      // Threads inside wire_.
  bool half_closed_ ABSL_GUARDED_BY(mutex_) = false;
  bool family_over_ ABSL_GUARDED_BY(mutex_) = false;  // FamilyEnd was put into the outbox.
  std::optional<absl::Status> ending_ ABSL_GUARDED_BY(mutex_);  // How the stream is to end.
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace conclave::worker
