#include <cmath>

#include "worker/backend/cuda/quantise.h"

namespace conclave::worker::cuda {
namespace {

constexpr int kThreads = 256;

__device__ inline float Number(float v) { return v; }
__device__ inline float Number(__nv_bfloat16 v) { return __bfloat162float(v); }

__device__ inline float WarpMax(float v) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, d));
  return v;
}

// The least power of two s, not below 2^-126, with max <= 448 s; 448 = 1.75 * 2^8.
__device__ inline float PowerOfTwoScale(float max) {
  const uint32_t bits = __float_as_uint(max);
  int exponent = static_cast<int>(bits >> 23) - 8 + ((bits & 0x7fffffu) > 0x600000u ? 1 : 0);
  exponent = exponent < 1 ? 1 : exponent;
  return __uint_as_float(static_cast<uint32_t>(exponent) << 23);
}

// One row a CTA. Runs at load, bound by what brings the rows.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    QuantiseE4M3Kernel(const T* rows, int64_t cols, int64_t from_stride, int64_t stride,
                       uint8_t* to, float* scales) {
  __shared__ float maxima[kThreads / 32];
  const T* const from = rows + blockIdx.x * from_stride;
  float max = 0;
  for (int64_t k = threadIdx.x; k < cols; k += kThreads) max = fmaxf(max, fabsf(Number(from[k])));
  max = WarpMax(max);
  if (threadIdx.x % 32 == 0) maxima[threadIdx.x / 32] = max;
  __syncthreads();
  max = 0;
  for (const float m : maxima) max = fmaxf(max, m);
  const float scale = PowerOfTwoScale(max);
  if (threadIdx.x == 0) scales[blockIdx.x] = scale;
  for (int64_t k = threadIdx.x; k < stride; k += kThreads) {
    to[blockIdx.x * stride + k] = k < cols
                                      ? static_cast<uint8_t>(__nv_cvt_float_to_fp8(
                                            Number(from[k]) / scale, __NV_SATFINITE, __NV_E4M3))
                                      : uint8_t{0};
  }
}

// One row a CTA; a group of 128 a warp, four neighbours a lane.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    QuantiseInt4Kernel(const T* rows, int64_t cols, int64_t from_stride, int64_t stride,
                       uint8_t* to, float* scales) {
  const T* const from = rows + blockIdx.x * from_stride;
  const int64_t groups = (cols + kInt4Group - 1) / kInt4Group;
  const int lane = static_cast<int>(threadIdx.x % 32);
  // Groups of padding have no scale; their nibbles are 8 (zero).
  for (int64_t group = threadIdx.x / 32; group * kInt4Group < stride; group += kThreads / 32) {
    const int64_t first = group * kInt4Group + lane * 4;
    float v[4];
    float max = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      v[i] = first + i < cols ? Number(from[first + i]) : 0.0f;
      max = fmaxf(max, fabsf(v[i]));
    }
    const float scale = WarpMax(max) / 7;
    if (lane == 0 && group < groups) scales[blockIdx.x * groups + group] = scale;
    int nibbles[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int n = scale > 0 ? static_cast<int>(rintf(v[i] / scale)) : 0;
      nibbles[i] = (n < -7 ? -7 : n > 7 ? 7 : n) + 8;
    }
    if (first < stride) {
      uint8_t* const bytes = to + (blockIdx.x * stride + first) / 2;
      bytes[0] = static_cast<uint8_t>(nibbles[0] | nibbles[1] << 4);
      bytes[1] = static_cast<uint8_t>(nibbles[2] | nibbles[3] << 4);
    }
  }
}

template <typename T>
void QuantiseRows(Tensor rows, Stored stored, int64_t stride, void* to, float* scales,
                  cudaStream_t stream) {
  const LaunchShape shape{dim3(static_cast<unsigned>(rows.rows)), dim3(kThreads), 0, stream};
  Launch(stored == Stored::kE4M3 ? QuantiseE4M3Kernel<T> : QuantiseInt4Kernel<T>, shape,
         static_cast<const T*>(rows.data), rows.cols, rows.stride, stride,
         static_cast<uint8_t*>(to), scales);
}

}  // namespace

void Quantise(Tensor rows, Stored stored, int64_t stride, void* to, float* scales,
              cudaStream_t stream) {
  if (rows.rows == 0) return;
  if (rows.dtype == DType::kF32) {
    QuantiseRows<float>(rows, stored, stride, to, scales, stream);
  } else {
    QuantiseRows<__nv_bfloat16>(rows, stored, stride, to, scales, stream);
  }
}

}  // namespace conclave::worker::cuda
