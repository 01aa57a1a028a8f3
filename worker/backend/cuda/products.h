#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "worker/backend/cuda/cuda_memory.h"
#include "worker/backend/cuda/experts.h"
#include "worker/backend/cuda/gemm.h"
#include "worker/backend/cuda/platform.h"
#include "worker/backend/device.h"

namespace conclave::worker::cuda {

// Products with weights: a row's kind decides its kernel. Prompt rows of bf16 go through Gemm,
// produced rows, and all rows of f32, through the kernels for few rows. One thread.
class Products {
 public:
  static absl::StatusOr<std::unique_ptr<Products>> Make(cudaStream_t stream);

  // As Device has them.
  absl::Status Linear(Tensor x, int64_t prompt_rows, const Weight& weight, bool add, Tensor out);
  absl::Status GateUp(Tensor x, int64_t prompt_rows, const Weight& weight, const float* bias,
                      Tensor out);
  // Where one kernel does both: one produced row of bf16 products. Else false, and nothing is done.
  bool NormLinear(Tensor x, const RowNorm& norm, DType normed, int64_t prompt_rows,
                  const Weight& weight, Tensor out);
  bool NormGateUp(Tensor x, const RowNorm& norm, DType normed, int64_t prompt_rows,
                  const Weight& weight, const float* bias, Tensor out);
  absl::Status MixExperts(Tensor x, Tensor scores, const std::vector<ExpertWeights>& experts,
                          const ExpertChoice& choice, Tensor out);
  // Of what was launched.
  absl::Status TakeError() { return gemm_->TakeError(); }
  // Of the library of large products.
  int64_t LibraryVersion() const { return gemm_->Version(); }
  // Whether scratch that recorded steps hold has moved, since this was last asked.
  bool TakeMoved() { return std::exchange(moved_, false); }

 private:
  Products(std::unique_ptr<Gemm> gemm, cudaStream_t stream)
      : gemm_(std::move(gemm)), stream_(stream) {}
  absl::Status Multiply(Tensor x, const Matrix& w, bool add, Tensor out);
  absl::StatusOr<const ExpertMatrices*> Table(const std::vector<ExpertWeights>& experts);

  std::unique_ptr<Gemm> gemm_;
  const cudaStream_t stream_;
  // Shapes that Gemm has prepared: in, out, how they are stored, the type of the result.
  std::set<std::tuple<int64_t, int64_t, Stored, DType>> prepared_;
  std::map<uint64_t, DeviceMemory> tables_;  // By the serial of the first expert's weight.
  Scratch both_, expert_scratch_;
  bool moved_ = false;
};

}  // namespace conclave::worker::cuda
