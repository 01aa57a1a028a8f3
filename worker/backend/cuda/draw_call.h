#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "worker/backend/cuda/cuda_memory.h"
#include "worker/backend/cuda/draw.h"
#include "worker/backend/cuda/platform.h"
#include "worker/backend/device.h"

namespace conclave::worker::cuda {

// Device::BeginDraw() and what follows it: few draws go up with the launch, more of them in one
// copy; the kernels write the results to one of two places of the host in turn. One thread.
class DrawCall {
 public:
  // REQUIRES: at most one draw is not taken.
  absl::Status Begin(const std::vector<ShardDraw>& draws, int64_t width, TokenId first,
                     cudaStream_t stream);
  // Of the oldest draw that is not taken. Errors of its work come out of Take().
  bool IsDone();
  absl::StatusOr<std::vector<ShardResult>> Take();

  // The ids that the last draw gave, on the device.
  const int32_t* drawn() const { return static_cast<const int32_t*>(drawn_.data()); }
  // Whether drawn() has changed, since this was last asked.
  bool TakeMoved() { return std::exchange(moved_, false); }

 private:
  // A draw under way.
  struct Result {
    Event done;
    PinnedMemory memory;
    size_t bytes = 0;
    std::vector<int> keeps;  // Of each draw.
    int64_t width = 0;
    size_t most_kept = 0;
  };
  absl::Status Upload(const std::vector<ShardDraw>& draws, int64_t width, TokenId first,
                      cudaStream_t stream, DrawArgs* args);
  absl::Status Launch(const std::vector<ShardDraw>& draws, int64_t width, TokenId first,
                      cudaStream_t stream, Result* result);

  Staging staging_;
  Scratch input_, scratch_, drawn_;
  bool moved_ = false;
  Result results_[2];
  uint64_t begun_ = 0, taken_ = 0;  // Draws; that of number n has results_[n % 2].
};

}  // namespace conclave::worker::cuda
