#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "common/clock.h"
#include "worker/engine/engine.h"
#include "worker/engine/scheduler.h"

namespace conclave::worker {

// One call of a FamilyStream, on its way to the engine's thread.
struct EngineCommand {
  enum class Kind { kOpen, kAdd, kRunTo, kCancel, kFinish, kRelease };
  Kind kind = Kind::kOpen;
  FamilyKey family = 0;
  FamilySpec spec{};                   // kOpen
  std::shared_ptr<FamilySink> sink{};  // kOpen. Shared with whoever opened the family.
  std::vector<AgentSpec> gang{};       // kAdd
  AgentId agent{};                     // kRunTo, kCancel
  int count = 0;                       // kRunTo
};

// The engine without its thread. The public calls of Engine and FamilyStream arrive on any thread;
// Turn and Loop are the engine's thread's.
class Engine::Core {
 public:
  Core(const EngineOptions& options, StepRunner& runner, Clock& clock);

  // Any thread.
  absl::StatusOr<FamilyKey> Open(FamilySpec spec, std::shared_ptr<FamilySink> sink);
  void Post(EngineCommand command);  // Dropped once the engine has stopped.
  EngineLoad load() const;
  absl::Status health() const;
  void Stop();  // Loop returns soon. Families that are open are released by it.

  // Takes the commands that wait, submits what can be submitted, and takes the result of the oldest
  // step in flight. False when there was no step.
  bool Turn();

  // Turns until Stop or until the group is lost.
  void Loop();

  // Null when the group's shape is not served. For tests, on the engine's thread.
  const Scheduler* scheduler() const { return scheduler_.has_value() ? &*scheduler_ : nullptr; }

 private:
  struct Family {
    std::shared_ptr<FamilySink> sink;  // Shared with the family's opener.
    bool finished = false;
  };

  void Obey(EngineCommand command);
  void Add(FamilyKey key, Family& family, std::vector<AgentSpec> gang);
  void Deliver();
  void EndIfDone(FamilyKey key);
  absl::StatusOr<bool> Step();
  void ReleaseAll();
  void Lose(const absl::Status& why);
  void Publish();
  bool Woken() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stopping_ || !commands_.empty();
  }

  const EngineOptions options_;
  StepRunner& runner_;
  Clock& clock_;

  // The engine's thread's.
  std::optional<Scheduler> scheduler_;
  std::map<FamilyKey, Family> families_;
  absl::Duration busy_;
  absl::Time busy_since_;

  mutable absl::Mutex mutex_;
  absl::Status health_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;  // Commands are dropped.
  std::vector<EngineCommand> commands_ ABSL_GUARDED_BY(mutex_);
  std::map<FamilyKey, int> waiting_ ABSL_GUARDED_BY(mutex_);  // Commands of each family.
  int open_families_ ABSL_GUARDED_BY(mutex_) = 0;
  FamilyKey last_family_ ABSL_GUARDED_BY(mutex_) = 0;
  EngineLoad load_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace conclave::worker
