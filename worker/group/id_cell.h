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

// A few bytes that one puts and others wait for: the name under which the ranks' devices meet, or
// where a rank is found. Lies in the group's shared memory, so each epoch has its own. Thread-safe,
// between processes too.
class IdCell {
 public:
  static constexpr size_t kMaxBytes = 4096;

  // Once. REQUIRES: id has 1 to kMaxBytes bytes.
  void Put(std::string_view id);
  // Empty: not there yet.
  std::string Get() const;
  // kDeadlineExceeded when it doesn't come.
  absl::StatusOr<std::string> Await(absl::Duration patience);

 private:
  std::array<char, kMaxBytes> bytes_{};
  std::atomic<uint32_t> size_{0};  // 0: not there yet.
  Bell bell_;
};

}  // namespace conclave::worker
