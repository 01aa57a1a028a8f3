#pragma once

#include <cstdint>

#include "worker/backend/cuda/platform.h"

// Eight neighbours of a row at a time, as f32: 16 bytes of bf16. Which thread has which octet never
// depends on how a row is aligned, so that sums over octets have one order.
namespace conclave::worker::cuda {

inline constexpr int kOctet = 8;

// `from` is aligned to 16 bytes; e4m3: to 8.
__device__ inline void LoadOctet(const float* from, float (&v)[kOctet]) {
  const float4 a = reinterpret_cast<const float4*>(from)[0];
  const float4 b = reinterpret_cast<const float4*>(from)[1];
  v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
  v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}
__device__ inline void LoadOctet(const __nv_bfloat16* from, float (&v)[kOctet]) {
  const uint4 bits = *reinterpret_cast<const uint4*>(from);
  const uint32_t pairs[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    v[2 * i] = __uint_as_float(pairs[i] << 16);
    v[2 * i + 1] = __uint_as_float(pairs[i] & 0xffff0000u);
  }
}

__device__ inline void StoreOctet(float* to, const float (&v)[kOctet]) {
  reinterpret_cast<float4*>(to)[0] = make_float4(v[0], v[1], v[2], v[3]);
  reinterpret_cast<float4*>(to)[1] = make_float4(v[4], v[5], v[6], v[7]);
}
__device__ inline uint32_t PackBF16(float low, float high) {
  const __nv_bfloat162_raw pair = __floats2bfloat162_rn(low, high);
  return pair.x | static_cast<uint32_t>(pair.y) << 16;
}
__device__ inline void StoreOctet(__nv_bfloat16* to, const float (&v)[kOctet]) {
  *reinterpret_cast<uint4*>(to) = make_uint4(PackBF16(v[0], v[1]), PackBF16(v[2], v[3]),
                                             PackBF16(v[4], v[5]), PackBF16(v[6], v[7]));
}
// Values beyond e4m3's greatest (448) become it.
__device__ inline uint32_t PackE4M3(float low, float high) {
  return __nv_cvt_float2_to_fp8x2(make_float2(low, high), __NV_SATFINITE, __NV_E4M3);
}
__device__ inline void StoreOctet(__nv_fp8_e4m3* to, const float (&v)[kOctet]) {
  *reinterpret_cast<uint2*>(to) = make_uint2(PackE4M3(v[0], v[1]) | PackE4M3(v[2], v[3]) << 16,
                                             PackE4M3(v[4], v[5]) | PackE4M3(v[6], v[7]) << 16);
}

// The octet at `at` of a row of `width`; zeros past its end. kWhole: the row is aligned and its
// width is whole octets.
template <bool kWhole, typename T>
__device__ inline void LoadOctet(const T* row, int at, int width, float (&v)[kOctet]) {
  if constexpr (kWhole) {
    if (at < width) {
      LoadOctet(row + at, v);
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < kOctet; ++i) {
    v[i] = !kWhole && at + i < width ? static_cast<float>(row[at + i]) : 0.0f;
  }
}
template <bool kWhole, typename T>
__device__ inline void StoreOctet(T* row, int at, int width, const float (&v)[kOctet]) {
  if constexpr (kWhole) {
    if (at < width) StoreOctet(row + at, v);
  } else {
#pragma unroll
    for (int i = 0; i < kOctet; ++i) {
      if (at + i < width) row[at + i] = static_cast<T>(v[i]);
    }
  }
}

// Whether octets of rows of this tensor can be read and written whole.
inline bool WholeOctets(const void* data, int64_t element_bytes, int64_t stride, int64_t width) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && stride * element_bytes % 16 == 0 &&
         width % kOctet == 0;
}

}  // namespace conclave::worker::cuda
