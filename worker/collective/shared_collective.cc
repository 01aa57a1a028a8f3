#include "worker/collective/shared_collective.h"

#include <absl/time/clock.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>

#include "common/check.h"
#include "common/status.h"

namespace conclave::worker {
namespace {

constexpr int64_t kSlotFloats = 64 * 1024;  // 256 KiB: a slice.
constexpr int kSpins = 200;  // A rank shares its core with others: it must not spin for long.

void FutexWait(std::atomic<uint32_t>& word, uint32_t seen) {
  const timespec timeout = {0, 50'000'000};
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT, seen, &timeout, nullptr, 0);
}

void FutexWake(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

}  // namespace

struct SharedArea {
  alignas(64) std::atomic<uint32_t> arrived;  // Ranks that have put a slice, over all slices.
  alignas(64) std::atomic<uint32_t> left;     // Ranks that have read a slice, over all slices.
  alignas(64) std::atomic<uint32_t> aborted;
};

absl::Status SoloCollective::AllGather(const float* part, int64_t count, float* out) {
  std::copy_n(part, count, out);
  return absl::OkStatus();
}

size_t SharedCollectiveBytes(int size) {
  return sizeof(SharedArea) + sizeof(float) * kSlotFloats * static_cast<size_t>(size);
}

SharedCollective::SharedCollective(void* memory, int rank, int size, absl::Duration patience)
    : area_(static_cast<SharedArea*>(memory)), rank_(rank), size_(size), patience_(patience) {
  CHECK(rank >= 0 && rank < size && reinterpret_cast<uintptr_t>(memory) % 64 == 0);
}

void SharedCollective::Abort(void* memory) {
  auto* area = static_cast<SharedArea*>(memory);
  area->aborted.store(1);
  FutexWake(area->arrived);
  FutexWake(area->left);
}

const float* SharedCollective::slot(int rank) const {
  return reinterpret_cast<float*>(area_ + 1) + int64_t{rank} * kSlotFloats;
}

// Waits until the counter has reached the target. Counters wrap; the difference does not.
absl::Status SharedCollective::Meet(std::atomic<uint32_t>& counter, uint32_t target) {
  absl::Time end;
  for (int turn = 0;; ++turn) {
    const uint32_t seen = counter.load(std::memory_order_acquire);
    if (static_cast<int32_t>(seen - target) >= 0) return absl::OkStatus();
    if (area_->aborted.load(std::memory_order_relaxed) != 0)
      return lost_ = Aborted("the group ends");
    if (turn < kSpins) continue;
    if (turn == kSpins) end = absl::Now() + patience_;
    if (absl::Now() > end) {
      return lost_ = DeadlineExceeded("rank {} waited {} for its peers", rank_,
                                      absl::FormatDuration(patience_));
    }
    FutexWait(counter, seen);
  }
}

// Puts a slice into the own slot once everybody has read the slice before, and waits for all.
absl::Status SharedCollective::Exchange(const float* part, int64_t count) {
  RETURN_IF_ERROR(lost_);
  RETURN_IF_ERROR(Meet(area_->left, slices_ * static_cast<uint32_t>(size_)));
  std::memcpy(const_cast<float*>(slot(rank_)), part, static_cast<size_t>(count) * sizeof(float));
  ++slices_;
  area_->arrived.fetch_add(1, std::memory_order_release);
  FutexWake(area_->arrived);
  return Meet(area_->arrived, slices_ * static_cast<uint32_t>(size_));
}

absl::Status SharedCollective::AllReduceSum(Tensor x) {
  float* data = dense_.Pack(x);
  const int64_t count = x.rows * x.cols;
  for (int64_t at = 0; at < count; at += kSlotFloats) {
    const int64_t slice = std::min(kSlotFloats, count - at);
    RETURN_IF_ERROR(Exchange(data + at, slice));
    float* out = data + at;
    std::memcpy(out, slot(0), static_cast<size_t>(slice) * sizeof(float));
    for (int r = 1; r < size_; ++r) Add(out, slot(r), out, slice);
    area_->left.fetch_add(1, std::memory_order_release);
    FutexWake(area_->left);
  }
  dense_.Unpack(data, x);
  return absl::OkStatus();
}

absl::Status SharedCollective::AllGather(const float* part, int64_t count, float* out) {
  for (int64_t at = 0; at < count; at += kSlotFloats) {
    const int64_t slice = std::min(kSlotFloats, count - at);
    RETURN_IF_ERROR(Exchange(part + at, slice));
    for (int r = 0; r < size_; ++r) std::copy_n(slot(r), slice, out + r * count + at);
    area_->left.fetch_add(1, std::memory_order_release);
    FutexWake(area_->left);
  }
  return absl::OkStatus();
}

ThreadGroup::ThreadGroup(int size, absl::Duration patience)
    : size_(size),
      patience_(patience),
      memory_(::operator new (SharedCollectiveBytes(size), std::align_val_t{64})) {
  std::memset(memory_.get(), 0, SharedCollectiveBytes(size));
}

std::unique_ptr<Collective> ThreadGroup::Rank(int rank) {
  if (size_ == 1) return std::make_unique<SoloCollective>();
  return std::make_unique<SharedCollective>(memory_.get(), rank, size_, patience_);
}

void ThreadGroup::Abort() { SharedCollective::Abort(memory_.get()); }

}  // namespace conclave::worker
