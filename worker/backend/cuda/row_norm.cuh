#pragma once

#include "worker/backend/cuda/octets.h"
#include "worker/backend/cuda/warp.h"

// The norm of one wide row by one block: x * rsqrt(mean(x^2) + eps) * gain. Of its sum: an octet in
// order, a thread's octets in order, lanes as a tree, warps in order. Octets are dealt out in turn
// to kNormThreads, whoever plays them: so a row has the same bits from a kernel of its own
// (norm.cu) and from a product that norms what it reads (row_product.cuh).
namespace conclave::worker::cuda {

inline constexpr int kNormThreads = 256;
inline constexpr int kNormWarps = kNormThreads / kWarp;

__device__ inline float AddSquares(const float (&v)[kOctet], float sum) {
#pragma unroll
  for (int i = 0; i < kOctet; ++i) sum = fmaf(v[i], v[i], sum);
  return sum;
}
__device__ inline float NormScale(const float* warp_sums, int width, float eps) {
  float total = 0;
#pragma unroll
  for (int w = 0; w < kNormWarps; ++w) total += warp_sums[w];
  return rsqrtf(total / static_cast<float>(width) + eps);
}
__device__ inline void ScaleOctet(float scale, const float (&gain)[kOctet], float (&v)[kOctet]) {
#pragma unroll
  for (int i = 0; i < kOctet; ++i) v[i] = v[i] * scale * gain[i];
}

// The whole block, of any whole number of warps that divides kNormThreads or is a multiple of it: x
// in global memory to `out` in shared memory, in bf16; both of whole octets. Ends with the block in
// step. `out` has room for kNormWarps floats at least.
__device__ inline void NormToShared(const float* x, const float* gain, int width, float eps,
                                    __nv_bfloat16* out) {
  const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
  float* const sums = reinterpret_cast<float*>(out);
  for (int t = thread; t < kNormThreads; t += threads) {
    float sum = 0;
#pragma unroll 2
    for (int at = t * kOctet; at < width; at += kNormThreads * kOctet) {
      float v[kOctet];
      LoadOctet(x + at, v);
      sum = AddSquares(v, sum);
    }
    sum = WarpSum(sum);
    if (t % kWarp == 0) sums[t / kWarp] = sum;
  }
  __syncthreads();
  const float scale = NormScale(sums, width, eps);
  __syncthreads();
#pragma unroll 2
  for (int at = thread * kOctet; at < width; at += threads * kOctet) {
    float v[kOctet], gains[kOctet];
    LoadOctet(x + at, v);
    LoadOctet(gain + at, gains);
    ScaleOctet(scale, gains, v);
    StoreOctet(out + at, v);
  }
  __syncthreads();
}

}  // namespace conclave::worker::cuda
