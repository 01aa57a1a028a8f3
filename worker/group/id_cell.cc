#include "worker/group/id_cell.h"

#include <algorithm>

#include "common/check.h"
#include "common/status.h"
#include "worker/group/patience.h"
#include "worker/group/rank_cell.h"

namespace conclave::worker {

void IdCell::Put(std::string_view id) {
  CHECK(!id.empty() && id.size() <= kMaxBytes && size_.load() == 0);
  std::copy(id.begin(), id.end(), bytes_.begin());
  size_.store(static_cast<uint32_t>(id.size()), std::memory_order_release);
  bell_.Ring();
}

std::string IdCell::Get() const {
  // What another process wrote is not trusted to fit.
  const size_t size = std::min<size_t>(size_.load(std::memory_order_acquire), kMaxBytes);
  return std::string(bytes_.data(), size);
}

absl::StatusOr<std::string> IdCell::Await(absl::Duration patience) {
  Patience left(patience);
  while (true) {
    const uint32_t rung = bell_.count();
    std::string id = Get();
    if (!id.empty()) return id;
    if (left.over()) {
      return DeadlineExceeded("nobody told it within {}", absl::FormatDuration(patience));
    }
    const absl::Duration turn = left.Turn();
    const int64_t before = MonotonicNanos();
    bell_.Wait(rung, turn);
    left.Spend(turn, absl::Nanoseconds(MonotonicNanos() - before));
  }
}

}  // namespace conclave::worker
