#pragma once

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "worker/launch/host_ranks.h"
#include "worker/launch/host_table.h"
#include "worker/launch/judge.h"

namespace conclave::worker {

// Of the launcher of host 0, or of the only one.
struct LauncherOptions : RankOptions {
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
  std::function<void(bool serves)>
      on_serving;  // Whether the group takes families, when it changes.
};

// Forms the group, watches it, ends it as a whole when the judge says so, and forms it anew under
// the next epoch. Of a group on several hosts it starts the ranks of host 0 and orders the others:
// an epoch begins when all are here and have no ranks left, and ends when one is silent or leaves.
// One thread, which must never end while ranks live. The destructor kills and reaps.
class Supervisor {
 public:
  // `others`: needed when options.place says that there are several hosts; must outlive this.
  explicit Supervisor(LauncherOptions options, OtherHosts* others = nullptr);
  ~Supervisor();
  Supervisor(const Supervisor&) = delete;
  Supervisor& operator=(const Supervisor&) = delete;

  // The first epoch; with other hosts it begins when they are here.
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
  // Epochs that ended with a loss: no drain for a host that leaves is one.
  int64_t losses() const { return all_losses_; }
  // This host's ranks' pids, in order; empty between two epochs.
  std::vector<int> pids() const;
  // Whether every rank has loaded its weights.
  bool ready() const;

 private:
  absl::Status Form();
  std::optional<absl::Status> TurnRanks(bool ticked);
  std::optional<absl::Status> TurnWithoutRanks();
  std::vector<RankSight> Look();
  std::optional<Loss> FindLoss(const std::vector<RankSight>& ranks, bool ticked);
  std::optional<absl::Status> Watch(bool ticked);
  std::optional<absl::Status> WatchDrain(bool ticked);
  std::optional<absl::Status> OnLoss(const Loss& loss);
  std::optional<absl::Status> EndDrain(const absl::Status& how);
  absl::Status End(const absl::Status& how);
  void BeginDrain();
  void KeepFlight(const std::string& loss) const;
  void TellServing();
  std::string Whereabouts() const;
  int64_t Ticks(absl::Duration duration) const;
  void Log(std::string_view line) const;

  const LauncherOptions options_;
  std::optional<HostTable> others_;
  uint64_t epoch_ = 0;
  std::string last_loss_;
  int64_t all_losses_ = 0;
  std::optional<HostRanks> ranks_;
  std::optional<Judge> judge_;
  bool said_ready_ = false;
  bool serving_ = false;
  std::string said_missing_;

  int64_t now_ = 0;             // Ticks since the beginning.
  int64_t form_at_ = 0;         // Between two epochs: when the next one begins.
  std::deque<int64_t> losses_;  // Within the window.
  std::optional<int64_t> drain_until_;
  bool drain_now_ = false;
  bool drain_for_host_ = false;  // That leaves: this launcher goes on.
};

}  // namespace conclave::worker
