#pragma once

#include <absl/time/time.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>

#include "worker/group/id_cell.h"

namespace conclave::worker {

inline int64_t MonotonicNanos() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * int64_t{1'000'000'000} + now.tv_nsec;
}

// What one rank tells the launcher and the leader. Lies in the group's shared memory, written by
// its rank alone; lock-free, so that a rank may die at any instruction. In tests it may lie
// anywhere.
struct alignas(64) RankCell {
  // By the beat's thread.
  std::atomic<uint64_t> beat{0};
  // The weights are loaded: set by GroupRunner and Follow.
  std::atomic<uint32_t> ready{0};

  // By the thread that runs steps. A step runs while begun != done.
  std::atomic<uint64_t> step_begun{0}, step_done{0};
  std::atomic<int64_t> step_begun_ns{0}, step_deadline_ns{0};  // CLOCK_MONOTONIC.
  std::atomic<uint64_t> step_hash{0};                          // Of step_done.

  // By the leader's engine and service loops: one more at every turn, and at least every 100 ms
  // when idle. Judged from the first turn on.
  std::atomic<uint64_t> engine_turns{0}, service_turns{0};
  // By the leader: new families are taken.
  std::atomic<uint32_t> serving{0};

  // The control channel's: how far this follower has read the ring, and its last done-marks; that
  // of step s lies at s % size. At most two plans are in flight, so none is overwritten unread.
  struct Mark {
    std::atomic<uint64_t> number{0}, hash{0};
  };
  std::atomic<uint64_t> ring_read{0};
  std::array<Mark, 4> marks;

  // The hashes of the last steps done, for the flight recorder: that of step s lies at s % size.
  std::array<std::atomic<uint64_t>, 32768> step_hashes;

  // Where the other ranks' collective finds this rank. Unused on one host.
  IdCell address;
  // What the rank computes with, as one line of text: told before it is ready.
  std::array<char, 256> identity{};
  // Why the rank ends its process: read by the launcher when that has ended.
  std::array<char, 512> last_words{};
};
static_assert(std::atomic<uint64_t>::is_always_lock_free);

// The order of the stores matters to a watcher that reads begun, then the deadline, then done: when
// it finds the step running, the deadline that it read is this step's.
inline void BeginStep(RankCell& cell, uint64_t number, absl::Duration patience) {
  const int64_t now = MonotonicNanos();
  cell.step_begun_ns.store(now, std::memory_order_release);
  cell.step_deadline_ns.store(now + absl::ToInt64Nanoseconds(patience), std::memory_order_release);
  cell.step_begun.store(number, std::memory_order_release);
}

inline void EndStep(RankCell& cell, uint64_t number, uint64_t hash) {
  cell.step_hashes[number % cell.step_hashes.size()].store(hash, std::memory_order_release);
  cell.step_hash.store(hash, std::memory_order_release);
  cell.step_done.store(number, std::memory_order_release);
}

// Texts end with a zero byte, and are cut between two characters where they don't fit. One thread.
template <size_t kSize>
void PutText(std::string_view text, std::array<char, kSize>& into) {
  size_t size = std::min(text.size(), kSize - 1);
  while (size > 0 && size < text.size() && (text[size] & 0xc0) == 0x80) --size;
  std::copy_n(text.begin(), size, into.begin());
  into[size] = 0;
}
template <size_t kSize>
std::string TextOf(const std::array<char, kSize>& from) {
  return std::string(from.begin(), std::find(from.begin(), from.end(), '\0'));
}

// Just before the process exits.
inline void SayLastWords(RankCell& cell, std::string_view why) { PutText(why, cell.last_words); }

}  // namespace conclave::worker
