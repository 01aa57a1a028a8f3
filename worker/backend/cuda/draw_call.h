#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <vector>

#include "worker/backend/cuda/cuda_memory.h"
#include "worker/backend/cuda/draw.h"
#include "worker/backend/cuda/platform.h"
#include "worker/backend/device.h"

namespace conclave::worker::cuda {

// Device::Draw: the draws go up in one copy, the results come back in one. One thread.
class DrawCall {
 public:
  // Waits. Errors of earlier work come out here too.
  absl::StatusOr<std::vector<ShardResult>> Run(const std::vector<ShardDraw>& draws, int64_t width,
                                               TokenId first, cudaStream_t stream);

 private:
  absl::Status Upload(const std::vector<ShardDraw>& draws, int64_t width, TokenId first,
                      cudaStream_t stream, DrawArgs* args);

  Staging staging_;
  Scratch input_, output_, scratch_;
  PinnedMemory result_;
  size_t result_bytes_ = 0;
};

}  // namespace conclave::worker::cuda
