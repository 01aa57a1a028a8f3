#pragma once

#include <absl/time/time.h>

#include <atomic>
#include <cstddef>
#include <memory>

#include "worker/collective/collective.h"
#include "worker/collective/rows.h"

namespace conclave::worker {

struct SharedArea;  // The layout of the memory that ranks share.

// Bytes that a group of `size` ranks shares.
size_t SharedCollectiveBytes(int size);

// Ranks that share memory: threads of one process, or processes of one host. Each call is cut into
// slices; in each, every rank puts its part into its own slot, waits for all, and reads all slots
// in rank order (gather and add). Waits spin briefly, then sleep on a futex.
class SharedCollective : public Collective {
 public:
  // `memory`: SharedCollectiveBytes(size) bytes, aligned to 64, zeroed before the first rank
  // attaches; it outlives all ranks. A wait longer than `patience` is kDeadlineExceeded.
  SharedCollective(void* memory, int rank, int size, absl::Duration patience);

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string name() const override { return "shared memory"; }
  absl::Status AllReduceSum(Tensor x) override;
  absl::Status AllGather(const float* part, int64_t count, float* out) override;

  // Every wait of every rank fails from now on. Any thread of any rank.
  static void Abort(void* memory);

 private:
  absl::Status Exchange(const float* part, int64_t count);
  absl::Status Meet(std::atomic<uint32_t>& counter, uint32_t target);
  const float* slot(int rank) const;

  SharedArea* area_;
  const int rank_, size_;
  const absl::Duration patience_;
  uint32_t slices_ = 0;  // Exchanged so far.
  absl::Status lost_;
  DenseRows dense_;
};

// `size` ranks as threads of this process, for tests and for one process that holds a whole group.
class ThreadGroup {
 public:
  explicit ThreadGroup(int size, absl::Duration patience = absl::Seconds(60));
  // Rank `rank`'s collective; used by one thread. This must outlive it.
  std::unique_ptr<Collective> Rank(int rank);
  void Abort();

 private:
  struct Free {
    void operator()(void* p) const { ::operator delete (p, std::align_val_t{64}); }
  };
  const int size_;
  const absl::Duration patience_;
  std::unique_ptr<void, Free> memory_;
};

}  // namespace conclave::worker
