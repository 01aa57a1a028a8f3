#pragma once

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "worker/group/patience.h"
#include "worker/launch/host_ranks.h"
#include "worker/launch/host_state.h"

namespace conclave::worker {

// The way to host 0's launcher. One thread; nothing here waits.
class HostLink {
 public:
  virtual ~HostLink() = default;
  // Begins a membership; what was before is forgotten.
  virtual void Join() = 0;
  // Ends it.
  virtual void Leave() = 0;
  // Why it is over, if it is. kFailedPrecondition: host 0 refuses this host for good.
  virtual std::optional<absl::Status> End() = 0;
  // What host 0 wants; nullopt until it has spoken since Join.
  virtual std::optional<HostOrders> Orders() = 0;
  // This host's state from now on.
  virtual void Report(const HostReport& report) = 0;
};

// Of the launcher of a host other than host 0.
struct JoinerOptions : RankOptions {
  absl::Duration tick = absl::Milliseconds(50);
  // How long host 0 may be silent, counted in ticks as a rank's silence is; and until it has spoken
  // for the first time.
  absl::Duration silence = absl::Seconds(1);
  absl::Duration join_patience = absl::Seconds(5);
  absl::Duration first_backoff = absl::Milliseconds(200);  // Doubles with each try in vain.
  absl::Duration max_backoff = absl::Seconds(10);
  absl::Duration drain_timeout = absl::Seconds(30);

  // Called on the launcher's thread; may be empty.
  std::function<void(std::string_view line)> log;
  std::function<void(bool serves)>
      on_serving;  // Whether the group takes families, when it changes.
};

// The launcher of a host other than host 0: starts this host's ranks when it is told to, reports
// what becomes of them, and kills them when it is told to, or hears no more of host 0; then it
// tries to join again, without end. It judges nobody. One thread, which must never end while ranks
// live. The destructor kills and reaps.
class Joiner {
 public:
  // `link` must outlive it.
  Joiner(JoinerOptions options, HostLink& link);

  // SIGTERM reached the launcher: host 0 is told, which drains the group. A second call ends it at
  // once.
  void Drain();

  // `ticked`: one tick has passed since the last such turn. nullopt while there is something to do;
  // then how it ended: OK after a drain, kDeadlineExceeded when that took too long,
  // kFailedPrecondition when host 0 refuses this host.
  std::optional<absl::Status> Turn(bool ticked);

  // This host's ranks' pids, in order.
  std::vector<int> pids() const;

 private:
  void Lose(const std::string& why);
  void Obey(const HostOrders& orders);
  void Begin(const HostOrders& orders);
  void PassOn(const HostOrders& orders);
  void KillRanks();
  void Report();
  void TellServing(bool serving);
  bool IsSilent(uint64_t beat);
  std::optional<absl::Status> WatchDrain(bool host_0_is_done);
  int64_t Ticks(absl::Duration duration) const;
  void Log(std::string_view line) const;

  const JoinerOptions options_;
  HostLink& link_;
  std::optional<HostRanks> ranks_;
  EpochName failed_;   // The epoch that could not begin here,
  std::string fault_;  // and why.

  bool joined_ = false;  // Or about to be.
  bool heard_ = false;   // Since it joined.
  Stillness host_0_;
  int64_t tries_ = 0;  // In vain, in a row.
  bool serving_ = false;
  int64_t now_ = 0;  // Ticks since the beginning.
  int64_t join_at_ = 0;
  std::optional<int64_t> drain_until_;
  bool drain_now_ = false;
};

}  // namespace conclave::worker
