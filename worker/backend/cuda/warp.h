#pragma once

#include <cstdint>

#include "worker/backend/cuda/platform.h"

// Steps of one warp that kernels share. All 32 lanes take part, and all get the same bits.
namespace conclave::worker::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline float WarpSum(float v) {
#pragma unroll
  for (int apart = kWarp / 2; apart > 0; apart /= 2) v += __shfl_xor_sync(kAllLanes, v, apart);
  return v;
}

// Over `kLanes` neighbouring lanes.
template <int kLanes = kWarp>
__device__ inline float WarpMax(float v) {
#pragma unroll
  for (int apart = 1; apart < kLanes; apart *= 2) {
    v = fmaxf(v, __shfl_xor_sync(kAllLanes, v, apart));
  }
  return v;
}

__device__ inline uint64_t WarpMax(uint64_t v) {
#pragma unroll
  for (int apart = kWarp / 2; apart > 0; apart /= 2) {
    const uint32_t high = __shfl_xor_sync(kAllLanes, static_cast<uint32_t>(v >> 32), apart);
    const uint32_t low = __shfl_xor_sync(kAllLanes, static_cast<uint32_t>(v), apart);
    const uint64_t other = static_cast<uint64_t>(high) << 32 | low;
    v = other > v ? other : v;
  }
  return v;
}

}  // namespace conclave::worker::cuda
