#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "worker/group/bell.h"

namespace conclave::worker {

// The name under which the ranks' collective meets: one rank makes it, the others wait for it. Lies
// in the group's shared memory, so each epoch has its own. Thread-safe, between processes too.
class IdCell {
 public:
  static constexpr size_t kMaxBytes = 256;

  // Once. REQUIRES: id has 1 to kMaxBytes bytes.
  void Put(std::string_view id);
  // kDeadlineExceeded when it doesn't come.
  absl::StatusOr<std::string> Await(absl::Duration patience);

 private:
  std::array<char, kMaxBytes> bytes_{};
  std::atomic<uint32_t> size_{0};  // 0: not there yet.
  Bell bell_;
};

}  // namespace conclave::worker
