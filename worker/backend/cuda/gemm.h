#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <memory>

#include "worker/backend/cuda/matrix.h"
#include "worker/backend/cuda/platform.h"
#include "worker/backend/tensor.h"

namespace conclave::worker::cuda {

// Products for many rows (prompts), bound by arithmetic: cuBLASLt with one algorithm for each shape
// of weight, chosen once, without a split of K, so that a row's bits do not depend on how many rows
// there are or which one it is. e4m3 and int4 weights are widened to bf16 first. In the f32 mode
// LinearRows serves prompts too. One thread.
class Gemm {
 public:
  virtual ~Gemm() = default;
  // Chooses the algorithm for this shape, and proves on the device that a row has the same bits
  // alone and among `most_rows`; kInternal when none does. Before the first Run of that shape.
  virtual absl::Status Prepare(const Matrix& w, DType out, int64_t most_rows) = 0;
  // out = x W^T, or with `add` out += x W^T (out is f32). x bf16 [N, in], N <= most_rows.
  virtual void Run(Tensor x, const Matrix& w, Tensor out, bool add, cudaStream_t stream) = 0;
  // What went wrong since the last call.
  virtual absl::Status TakeError() = 0;
};

// On the current device. The emulator has one of its own.
absl::StatusOr<std::unique_ptr<Gemm>> MakeGemm();

}  // namespace conclave::worker::cuda
