#include "worker/backend/cuda/row_hash.h"

namespace conclave::worker::cuda {
namespace {

constexpr int kThreads = 32;  // A warp a row.

// Every bit of the result depends on every bit of v.
__device__ inline uint32_t Mix(uint32_t v) {
  v = (v ^ v >> 16) * 0x7feb352du;
  v = (v ^ v >> 15) * 0x846ca68bu;
  return v ^ v >> 16;
}

__device__ inline void Store(float v, float* to) { *to = v; }
__device__ inline void Store(float v, __nv_bfloat16* to) { *to = __float2bfloat16_rn(v); }
__device__ inline uint32_t BitsOf(float v) { return __float_as_uint(v); }
__device__ inline uint32_t BitsOf(__nv_bfloat16 v) { return __bfloat16_as_ushort(v); }

template <typename T>
__global__ void __launch_bounds__(kThreads)
    FillRowsKernel(T* to, int64_t cols, int64_t stride, uint32_t seed, uint32_t first_name) {
  const uint32_t name = Mix(first_name + blockIdx.x + Mix(seed));
  for (int64_t c = threadIdx.x; c < cols; c += kThreads) {
    const uint32_t bits = Mix(name + static_cast<uint32_t>(c) * 0x9e3779b9u);
    Store(static_cast<float>(bits >> 8) * 0x1p-23f - 1.0f, to + blockIdx.x * stride + c);
  }
}

// Sums of integers, whose order does not matter.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    HashRowsKernel(const T* from, int64_t cols, int64_t stride, uint2* hashes) {
  uint2 sum = make_uint2(0, 0);
  for (int64_t c = threadIdx.x; c < cols; c += kThreads) {
    const uint32_t bits = BitsOf(from[blockIdx.x * stride + c]);
    const uint32_t mixed = Mix(bits + Mix(static_cast<uint32_t>(c)));
    sum.x += mixed;
    sum.y += Mix(mixed ^ 0x68bc21ebu);
  }
#pragma unroll
  for (int d = 16; d > 0; d /= 2) {
    sum.x += __shfl_xor_sync(0xffffffffu, sum.x, d);
    sum.y += __shfl_xor_sync(0xffffffffu, sum.y, d);
  }
  if (threadIdx.x == 0) hashes[blockIdx.x] = sum;
}

LaunchShape ShapeOf(Tensor t, cudaStream_t stream) {
  return {dim3(static_cast<unsigned>(t.rows)), dim3(kThreads), 0, stream};
}

}  // namespace

void FillRows(Tensor to, uint32_t seed, int64_t first_name, cudaStream_t stream) {
  if (to.rows == 0) return;
  const uint32_t name = static_cast<uint32_t>(first_name);
  if (to.dtype == DType::kF32) {
    Launch(FillRowsKernel<float>, ShapeOf(to, stream), to.row(0), to.cols, to.stride, seed, name);
  } else {
    Launch(FillRowsKernel<__nv_bfloat16>, ShapeOf(to, stream), static_cast<__nv_bfloat16*>(to.data),
           to.cols, to.stride, seed, name);
  }
}

void HashRows(Tensor from, uint2* hashes, cudaStream_t stream) {
  if (from.rows == 0) return;
  if (from.dtype == DType::kF32) {
    Launch(HashRowsKernel<float>, ShapeOf(from, stream), static_cast<const float*>(from.data),
           from.cols, from.stride, hashes);
  } else {
    Launch(HashRowsKernel<__nv_bfloat16>, ShapeOf(from, stream),
           static_cast<const __nv_bfloat16*>(from.data), from.cols, from.stride, hashes);
  }
}

}  // namespace conclave::worker::cuda
