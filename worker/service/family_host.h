#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/status/status.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include <map>
#include <memory>
#include <string>

#include "common/log.h"
#include "common/metrics.h"
#include "worker/engine/engine.h"
#include "worker/service/agent_factory.h"
#include "worker/service/work_pool.h"

namespace conclave::worker {

class FamilySession;

struct FamilyHostOptions {
  std::string fingerprint;  // A family that names another one is refused.
  int max_families = 256;
  absl::Duration retry_after = absl::Seconds(1);  // Told to routers that are refused.
  Histogram inter_token = {};  // Takes the times between the tokens of each agent.
};

// What all families of a group share: where they run, and who is here. Thread-safe. Must outlive
// its sessions' calls (not the sessions: see FamilySession).
class FamilyHost {
 public:
  FamilyHost(FamilyHostOptions options, Engine& engine, const AgentFactory& factory, WorkPool& pool,
             Logger log);

  // Takes the session in. kFailedPrecondition: another fingerprint. kUnavailable (with the time to
  // come back): the group is lost, drains or was closed. kResourceExhausted: too many families.
  absl::Status Enter(const std::shared_ptr<FamilySession>& session, const FamilyOpening& opening);
  // A session that entered, or did not, has ended.
  void Leave(FamilySession* session);

  // From now on no family is taken, for this reason. The last call counts; OK opens again.
  void Close(absl::Status why);
  // Ends every family that is here, without a FamilyEnd.
  void BreakAll(const absl::Status& why);
  // Waits until nobody is here; false when `timeout` was over first.
  bool AwaitEmpty(absl::Duration timeout);
  int families() const;
  // The same sink, with its tokens' times measured.
  std::shared_ptr<FamilySink> Timed(std::shared_ptr<FamilySink> sink);

  Engine& engine() { return engine_; }
  const AgentFactory& factory() const { return factory_; }
  WorkPool& pool() { return pool_; }
  const Logger& log() const { return log_; }

 private:
  bool Empty() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return sessions_.empty(); }

  const FamilyHostOptions options_;
  Engine& engine_;
  const AgentFactory& factory_;
  WorkPool& pool_;
  const Logger log_;

  mutable absl::Mutex mutex_;
  absl::Status closed_ ABSL_GUARDED_BY(mutex_);
  std::map<FamilySession*, std::weak_ptr<FamilySession>> sessions_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace conclave::worker
