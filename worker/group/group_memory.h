#pragma once

#include <absl/status/statusor.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "worker/group/bell.h"
#include "worker/group/id_cell.h"
#include "worker/group/plan_ring.h"
#include "worker/group/rank_cell.h"

namespace conclave::worker {

inline constexpr int kMaxRanks = 64;

struct GroupMemoryOptions {
  int tp = 1;                                 // Ranks: 1 to kMaxRanks.
  uint64_t epoch = 1;                         // Counts the groups that one launcher formed.
  uint64_t nonce = 0;                         // Tells the epochs of two launchers apart.
  size_t ring_bytes = size_t{4} << 20;        // A multiple of 64, 4 kB to 1 GB.
  size_t collective_bytes = size_t{1} << 20;  // Given to the ranks' collective; at most 64 GB.
  std::string last_loss = {};                 // Why the epoch before this one ended; empty: none.
  int64_t losses = 0;                         // Epochs of this launcher that ended with a loss.
};

// The head of the region. Constants are written before any rank starts.
struct GroupHeader {
  uint64_t magic = 0;
  uint32_t version = 0;
  int32_t tp = 0;
  uint64_t epoch = 0, nonce = 0;
  uint64_t total_bytes = 0, ring_bytes = 0, collective_bytes = 0;
  std::array<char, 1024> last_loss{};  // Ends with a zero byte.
  int64_t losses = 0;

  alignas(64) std::atomic<uint64_t> launcher_beat{0};
  IdCell collective_id;
  IdCell plan_port;  // Where the leader gives plans to followers on other hosts: decimal digits.
  // The control channel's.
  RingMarks ring;
  alignas(64) std::atomic<uint32_t> closed{0};
  alignas(64) Bell plan_bell;    // Rung for followers: a plan, or closed.
  alignas(64) Bell leader_bell;  // Rung for the leader: a done-mark, or room in the ring.
};

// One region of anonymous shared memory in which a group's ranks meet: beats, steps, the ring of
// plans, and room for the collective. The launcher makes a new one for each epoch and passes it on
// as an inherited descriptor; it outlives the ranks, so the launcher can read how they died. Its
// size is sealed. Movable; the destructor unmaps. The contents are thread-safe as they say.
class GroupMemory {
 public:
  // Zeroed pages, taken from the system only when they are touched. kInvalidArgument for sizes
  // outside their range, kResourceExhausted when the system refuses.
  static absl::StatusOr<GroupMemory> Create(const GroupMemoryOptions& options);

  // Maps what a launcher made. Takes the descriptor, and closes it in any case.
  // kFailedPrecondition when it is not a group's memory, or another version, epoch, tp or size.
  static absl::StatusOr<GroupMemory> Attach(int fd, int tp, uint64_t epoch);

  GroupMemory(GroupMemory&& other) noexcept;
  GroupMemory& operator=(GroupMemory&& other) noexcept;
  ~GroupMemory();

  GroupHeader& header() const;
  int tp() const { return header().tp; }
  uint64_t epoch() const { return header().epoch; }
  uint64_t nonce() const { return header().nonce; }
  RankCell& cell(int rank) const;
  std::span<std::byte> ring() const;
  std::span<std::byte> collective() const;  // Starts on a page; zeroed at Create.
  std::string_view last_loss() const { return header().last_loss.data(); }

  // The maker's descriptor, to be inherited by the ranks; -1 after Attach.
  int fd() const { return fd_; }

 private:
  GroupMemory(std::byte* bytes, size_t size, int fd) : bytes_(bytes), size_(size), fd_(fd) {}

  std::byte* bytes_ = nullptr;
  size_t size_ = 0;
  int fd_ = -1;
};

}  // namespace conclave::worker
