#pragma once

#include <absl/status/status.h>
#include <absl/time/time.h>
#include <sys/types.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "worker/backend/cuda/platform.h"
#include "worker/collective/collective.h"
#include "worker/group/id_cell.h"
#include "worker/group/rank_cell.h"

namespace conclave::worker {

inline constexpr int kMostRanks = 8;

// What the ranks of a test share: zeroed memory of all processes.
struct Meeting {
  IdCell id;
  std::atomic<uint64_t> launcher_beat{0};
  RankCell cells[kMostRanks];
  int32_t said[kMostRanks][64] = {};  // Results of the ranks, as a test likes.
  alignas(64) std::byte collective[(size_t{2} << 20) + 4096];
};

// Ranks as processes, which alone touch the GPU: what has used CUDA must not fork. Whoever is still
// there at the end is killed.
class RankProcesses {
 public:
  using Work = std::function<absl::Status(int rank, Meeting& meeting)>;

  RankProcesses(int size, const Work& work);
  ~RankProcesses();

  // Waits for all to end. Each one's complaint: empty when its work was OK, else its status, how it
  // died, or that it was killed for it took longer than `limit`.
  std::vector<std::string> Complaints(absl::Duration limit);

  Meeting& meeting() { return *meeting_; }
  // How a rank ended, as waitpid says; nullopt: it runs.
  std::optional<int> Exit(int rank);
  void Kill(int rank);

 private:
  struct Rank {
    pid_t pid = 0;
    int words = -1;  // The reading end of a pipe.
    std::optional<int> exit;
  };
  Meeting* meeting_ = nullptr;
  std::vector<Rank> ranks_;
};

// The GPU of a rank: they share those of this machine.
int DeviceOfRank(int rank);

// One rank of a group.
struct JoinedRank {
  cudaStream_t stream = nullptr;
  std::unique_ptr<Collective> host, collective;

  struct Manner {
    cudaStream_t stream = nullptr;  // Null: it makes one.
    bool peers = true;
    absl::Duration patience = absl::Seconds(30), trial_patience = absl::Seconds(10);
  };
  static absl::StatusOr<JoinedRank> Join(int rank, int size, Meeting& meeting,
                                         const Manner& manner);
};

// Why ranks can't meet on this machine; empty when they can. Asked by a process of its own.
std::string WhyNoRanks();

}  // namespace conclave::worker
