#pragma once

#include <absl/time/time.h>

#include <atomic>
#include <cstdint>

namespace conclave::worker {

// Wakes threads of any process that maps it: a futex. Wait for a condition like this: remember
// count(), look at the condition, then Wait(count).
class Bell {
 public:
  uint32_t count() const { return count_.load(std::memory_order_acquire); }

  // Call it after the condition became true.
  void Ring();

  // Returns when it was rung since count() was `seen`, after `timeout`, or by chance.
  void Wait(uint32_t seen, absl::Duration timeout);

 private:
  std::atomic<uint32_t> count_{0};
  static_assert(std::atomic<uint32_t>::is_always_lock_free);
};

}  // namespace conclave::worker
