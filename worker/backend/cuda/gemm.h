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
  // alone and among `most_rows`; kInternal when none does. kResourceExhausted when memory is short
  // for any of them: who chose among the others could choose other bits than its peers. Before the
  // first Run of that shape; does nothing for a shape that it knows. Waits for the device; needs
  // memory for `most_rows` rows meanwhile. The weight's numbers are there.
  virtual absl::Status Prepare(const Matrix& w, DType out, int64_t most_rows) = 0;
  // out = x W^T, or with `add` out += x W^T (out is f32). x bf16 [N, in], N <= most_rows. Rows
  // begin at multiples of 16 bytes: x.stride and w.stride are multiples of 8, and out's rows too
  // unless out is dense.
  virtual void Run(Tensor x, const Matrix& w, Tensor out, bool add, cudaStream_t stream) = 0;
  // What went wrong first since the last call.
  virtual absl::Status TakeError() = 0;
  // Of the library: another one may choose other algorithms, and so other bits.
  virtual int64_t Version() const { return 0; }
};

// On the current device. The emulator has one of its own.
absl::StatusOr<std::unique_ptr<Gemm>> MakeGemm();

}  // namespace conclave::worker::cuda
