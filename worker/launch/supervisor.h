#pragma once

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "worker/group/group_memory.h"
#include "worker/launch/judge.h"
#include "worker/launch/process.h"

namespace conclave::worker {

struct LauncherOptions {
  int tp = 2;
  std::string program = "/proc/self/exe";   // What a rank runs.
  std::vector<std::string> rank_arguments;  // Follow the flags of the rank.
  size_t ring_bytes = size_t{64} << 20;     // Of plans: how far a flight reaches back.
  size_t collective_bytes = size_t{64} << 20;

  absl::Duration tick = absl::Milliseconds(50);
  JudgeLimits judge;
  absl::Duration drain_timeout = absl::Seconds(30);
  // More losses than this within the window end the launcher.
  int max_restarts = 5;
  absl::Duration restart_window = absl::Minutes(10);
  absl::Duration first_backoff = absl::Milliseconds(200);  // Doubles with each loss in the window.
  absl::Duration max_backoff = absl::Seconds(10);

  std::string flight_directory;  // Empty: flights are not kept.
  int max_flight_files = 8;

  // Called on the launcher's thread; may be empty.
  std::function<void(std::string_view line)> log;
  std::function<void(uint64_t epoch)> on_epoch;  // An epoch begins.
  std::function<void(const std::string& loss)> on_loss;
};

// Forms the group, watches it, ends it as a whole when the judge says so, and forms it anew under
// the next epoch. One thread, which must never end while ranks live (they are told of their
// parent's death when the *thread* that started them ends). The destructor kills and reaps.
class Supervisor {
 public:
  explicit Supervisor(LauncherOptions options);
  ~Supervisor();
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // The first epoch.
  absl::Status Start();

  // SIGTERM reached the launcher: the leader is told to drain, and everything ends when it has
  // exited, or after drain_timeout. A second call ends it at once.
  void Drain();

  // Looks at the ranks. `ticked`: one tick has passed since the last such turn. nullopt while there
  // is something to supervise; then how it ended: OK after a drain; kDeadlineExceeded when the
  // drain took too long; kAborted when the group was lost while draining; kResourceExhausted after
  // too many losses; kFailedPrecondition when a rank of the first epoch exited with an error before
  // it was ready (a wrong config, most often), which another start would not mend.
  std::optional<absl::Status> Turn(bool ticked);

  uint64_t epoch() const { return epoch_; }
  // The ranks' pids, in order; empty between two epochs.
  std::vector<int> pids() const;
  // Whether every rank has loaded its weights.
  bool ready() const;

 private:
  absl::Status Form();
  std::vector<RankSight> Look();
  std::optional<absl::Status> Watch(bool ticked);
  std::optional<absl::Status> WatchDrain(bool ticked);
  std::optional<absl::Status> OnLoss(const Loss& loss);
  absl::Status End(const absl::Status& how);
  void KillRanks();
  void KeepFlight(const std::string& loss) const;
  std::string Whereabouts() const;
  int64_t Ticks(absl::Duration duration) const;
  void Log(std::string_view line) const;

  const LauncherOptions options_;
  uint64_t epoch_ = 0;
  std::string last_loss_;
  std::optional<GroupMemory> memory_;
  std::vector<Process> ranks_;
  std::optional<Judge> judge_;
  bool said_ready_ = false;

  int64_t now_ = 0;             // Ticks since the beginning.
  int64_t form_at_ = 0;         // Between two epochs: when the next one begins.
  std::deque<int64_t> losses_;  // Within the window.
  std::optional<int64_t> drain_until_;
  bool drain_now_ = false;
};

}  // namespace conclave::worker
