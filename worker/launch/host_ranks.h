#pragma once

#include <absl/status/statusor.h>

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "worker/group/group_memory.h"
#include "worker/launch/host_state.h"
#include "worker/launch/judge.h"
#include "worker/launch/process.h"

namespace conclave::worker {

// What ranks are made of.
struct RankOptions {
  int tp = 2;                               // Of the whole group.
  HostPlace place;                          // tp is a multiple of its hosts.
  std::string program = "/proc/self/exe";   // What a rank runs.
  std::vector<std::string> rank_arguments;  // Follow the flags of the rank.
  size_t ring_bytes = size_t{64} << 20;     // Of plans: how far a flight reaches back.
  size_t collective_bytes = size_t{64} << 20;
};

// This host's ranks in one epoch, and the memory in which they meet. That holds a cell for every
// rank of the group: the launcher writes what it hears of other hosts' ranks into theirs. Movable;
// one thread, which must not end before the ranks (they are told of their parent's death when the
// *thread* that started them ends). The destructor kills and reaps.
class HostRanks {
 public:
  // New memory, new processes. `losses`: what was lost before, as far as this launcher knows.
  static absl::StatusOr<HostRanks> Begin(const RankOptions& options, const EpochName& epoch,
                                         const std::string& last_loss, int64_t losses = 0);
  HostRanks(HostRanks&&) = default;
  HostRanks& operator=(HostRanks&&) = default;
  ~HostRanks();

  GroupMemory& memory() { return memory_; }
  const GroupMemory& memory() const { return memory_; }
  const EpochName& epoch() const { return epoch_; }
  int first() const { return first_; }
  // In order, from first() on.
  std::vector<int> pids() const;
  std::vector<RankSight> Look();
  void Signal(int rank, int signal) {
    ranks_.at(static_cast<size_t>(rank - first_)).Signal(signal);
  }
  // Returns when all have ended. `log` may be empty.
  void Kill(const std::function<void(std::string_view line)>& log);

 private:
  HostRanks(GroupMemory memory, const EpochName& epoch, int first)
      : memory_(std::move(memory)), epoch_(epoch), first_(first) {}

  GroupMemory memory_;
  EpochName epoch_;
  int first_ = 0;
  std::vector<Process> ranks_;
};

// This host's ranks as its launcher tells host 0.
std::vector<RankReport> ReportRanks(HostRanks& ranks);

// Writes what was heard of another host's rank into its cell.
void Mirror(const RankReport& report, RankCell& cell);

}  // namespace conclave::worker
