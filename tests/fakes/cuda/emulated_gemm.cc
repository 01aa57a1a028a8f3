// The large products of the emulator: plain loops, summed in order of k.

#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include <memory>
#include <vector>

#include "common/check.h"
#include "worker/backend/cuda/gemm.h"

namespace conclave::worker::cuda {
namespace {

float Weight(const Matrix& w, int64_t row, int64_t k) {
  const int64_t at = row * w.stride + k;
  switch (w.stored) {
    case Stored::kF32:
      return static_cast<const float*>(w.data)[at];
    case Stored::kBF16:
      return __bfloat162float(static_cast<const __nv_bfloat16*>(w.data)[at]);
    case Stored::kE4M3: {
      const float number = static_cast<float>(static_cast<const __nv_fp8_e4m3*>(w.data)[at]);
      return __bfloat162float(__float2bfloat16(number)) * w.scales[row];
    }
    case Stored::kInt4: {
      const int byte = static_cast<const uint8_t*>(w.data)[at / 2];
      const int nibble = k % 2 == 0 ? byte & 15 : byte >> 4;
      const float scale = w.scales[row * (w.in / kInt4Group) + k / kInt4Group];
      return static_cast<float>(nibble - 8) * scale;
    }
  }
  return 0;
}

float Load(Tensor t, int64_t row, int64_t col) {
  if (t.dtype == DType::kF32) return *static_cast<const float*>(t.at(row, col));
  return __bfloat162float(*static_cast<const __nv_bfloat16*>(t.at(row, col)));
}

// out = x W^T (+ out).
void Multiply(Tensor x, const Matrix& w, Tensor out, bool add) {
  std::vector<float> weights(static_cast<size_t>(w.in));
  for (int64_t o = 0; o < w.out; ++o) {
    for (int64_t k = 0; k < w.in; ++k) weights[static_cast<size_t>(k)] = Weight(w, o, k);
    for (int64_t n = 0; n < x.rows; ++n) {
      float sum = 0;
      for (int64_t k = 0; k < w.in; ++k) sum += Load(x, n, k) * weights[static_cast<size_t>(k)];
      if (add) sum += Load(out, n, o);
      if (out.dtype == DType::kF32) {
        *static_cast<float*>(out.at(n, o)) = sum;
      } else {
        *static_cast<__nv_bfloat16*>(out.at(n, o)) = __float2bfloat16(sum);
      }
    }
  }
}

class EmulatedGemm : public Gemm {
 public:
  absl::Status Prepare(const Matrix&, DType, int64_t) override { return absl::OkStatus(); }
  void Run(Tensor x, const Matrix& w, Tensor out, bool add, cudaStream_t stream) override {
    CHECK(x.dtype == DType::kBF16 && x.cols == w.in && out.cols == w.out && out.rows == x.rows);
    CHECK(!add || out.dtype == DType::kF32);
    // As a kernel: in the stream's order, and captured with it.
    emulated::SubmitHost([=] { Multiply(x, w, out, add); }, stream);
  }
  absl::Status TakeError() override { return absl::OkStatus(); }
};

}  // namespace

absl::StatusOr<std::unique_ptr<Gemm>> MakeGemm() { return std::make_unique<EmulatedGemm>(); }

}  // namespace conclave::worker::cuda
