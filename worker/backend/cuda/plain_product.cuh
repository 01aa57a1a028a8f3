#pragma once

#include <cstdint>

#include "worker/backend/cuda/matrix.h"
#include "worker/backend/cuda/platform.h"
#include "worker/backend/cuda/product_formats.cuh"
#include "worker/backend/tensor.h"

// A product for exactness alone: the f32 mode, and widths that the tensor cores' kernel cannot
// take. A warp owns one output column and eight tokens; a lane sums every 32nd k, rising, and the
// lanes' sums meet in a tree: one order for a width, whatever the rows.
namespace conclave::worker::cuda {

struct PlainProduct {
  Tensor x;
  Matrix w;
  Tensor out;
  const float* bias = nullptr;
  bool add = false;
};

__device__ inline float NumberOf(const Matrix& w, int64_t row, int64_t k) {
  const int64_t at = row * w.stride + k;
  if (w.stored == Stored::kF32) return static_cast<const float*>(w.data)[at];
  if (w.stored == Stored::kBF16)
    return __bfloat162float(static_cast<const __nv_bfloat16*>(w.data)[at]);
  const unsigned char* const bytes = static_cast<const unsigned char*>(w.data);
  if (w.stored == Stored::kE4M3) return w.scales[row] * E4m3Number(bytes[at]);
  const int nibble = bytes[at / 2] >> (at % 2 * 4) & 0xf;
  return w.scales[row * (w.in / kInt4Group) + k / kInt4Group] * static_cast<float>(nibble - 8);
}

inline constexpr int kPlainTokens = 8, kPlainColumns = 8;  // Of a block.

template <bool kGateUp>
__global__ void __launch_bounds__(kPlainColumns * 32) PlainProductKernel(const PlainProduct p) {
  GridDependencyLaunch();
  GridDependencyWait();
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int64_t column = int64_t{blockIdx.x} * kPlainColumns + threadIdx.x / 32;
  const int64_t first = int64_t{blockIdx.y} * kPlainTokens;
  if (column >= p.out.cols) return;
  float sums[kPlainTokens][2] = {};
  for (int64_t k = lane; k < p.w.in; k += 32) {
    const float w = NumberOf(p.w, column, k);
    const float up = kGateUp ? NumberOf(p.w, column + p.out.cols, k) : 0.0F;
#pragma unroll
    for (int i = 0; i < kPlainTokens; ++i) {
      if (first + i >= p.x.rows) continue;
      const int64_t at = (first + i) * p.x.stride + k;
      const float x = p.x.dtype == DType::kF32
                          ? static_cast<const float*>(p.x.data)[at]
                          : __bfloat162float(static_cast<const __nv_bfloat16*>(p.x.data)[at]);
      sums[i][0] = fmaf(w, x, sums[i][0]);
      if constexpr (kGateUp) sums[i][1] = fmaf(up, x, sums[i][1]);
    }
  }
#pragma unroll
  for (int i = 0; i < kPlainTokens; ++i) {
#pragma unroll
    for (int s = 0; s < (kGateUp ? 2 : 1); ++s) {
#pragma unroll
      for (int bit = 16; bit > 0; bit /= 2) {
        sums[i][s] += __shfl_xor_sync(0xffffffffU, sums[i][s], bit);
      }
    }
    if (lane != 0 || first + i >= p.x.rows) continue;
    float value = sums[i][0] + (p.bias != nullptr ? p.bias[column] : 0.0F);
    if constexpr (kGateUp) {
      const float up = sums[i][1] + (p.bias != nullptr ? p.bias[column + p.out.cols] : 0.0F);
      value = value / (1.0F + expf(-value)) * up;
    }
    const int64_t at = (first + i) * p.out.stride + column;
    if (p.out.dtype == DType::kBF16) {
      static_cast<__nv_bfloat16*>(p.out.data)[at] = __float2bfloat16(value);
    } else {
      float* const out = static_cast<float*>(p.out.data) + at;
      *out = p.add ? *out + value : value;
    }
  }
}

template <bool kGateUp>
void LaunchPlain(const PlainProduct& product, cudaStream_t stream) {
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>((product.out.cols + kPlainColumns - 1) / kPlainColumns),
                    static_cast<unsigned>((product.x.rows + kPlainTokens - 1) / kPlainTokens));
  shape.block = dim3(kPlainColumns * 32);
  shape.stream = stream;
  shape.early = true;
  Launch(PlainProductKernel<kGateUp>, shape, product);
}

}  // namespace conclave::worker::cuda
