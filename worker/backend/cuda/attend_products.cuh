#pragma once

#include <cstdint>

#include "worker/backend/cuda/platform.h"

// The products of attend_decode.cu with one tile of keys or values in shared memory, by one warp,
// in the layouts of Mma16816. What is bf16 is multiplied as it stands. Words of four e4m3 numbers
// are widened in registers to a pair of the even and a pair of the odd ones, and what they are
// multiplied with, or the columns of the result, follow that order.
namespace conclave::worker::cuda {

__device__ inline uint32_t TimesTwoTo120(uint32_t pair) {
  const __nv_bfloat162 numbers(__ushort_as_bfloat16(static_cast<unsigned short>(pair)),
                               __ushort_as_bfloat16(static_cast<unsigned short>(pair >> 16)));
  const __nv_bfloat162 product = __hmul2(numbers, __float2bfloat162_rn(0x1p120f));
  return uint32_t{__bfloat16_as_ushort(product.x)} | uint32_t{__bfloat16_as_ushort(product.y)}
                                                         << 16;
}
// Bytes 0 and 2 (1 and 3) of the word, e4m3, as bf16: exact. Sign, exponent and mantissa move to
// their places; 2^120 makes up for the difference of the exponents' biases.
__device__ inline uint32_t WidenEven(uint32_t word) {
  return TimesTwoTo120((word << 8 & 0x80008000u) | (word << 4 & 0x07f007f0u));
}
__device__ inline uint32_t WidenOdd(uint32_t word) {
  return TimesTwoTo120((word & 0x80008000u) | (word >> 4 & 0x07f007f0u));
}

// 16 bf16 numbers in the order that MultiplyKeys wants of queries beside e4m3: the even ones first.
__device__ inline void StoreParted(__nv_bfloat16* shared, const uint4& a, const uint4& b) {
  uint4* const to = reinterpret_cast<uint4*>(shared);
  to[0] = make_uint4(__byte_perm(a.x, a.y, 0x5410), __byte_perm(a.z, a.w, 0x5410),
                     __byte_perm(b.x, b.y, 0x5410), __byte_perm(b.z, b.w, 0x5410));
  to[1] = make_uint4(__byte_perm(a.x, a.y, 0x7632), __byte_perm(a.z, a.w, 0x7632),
                     __byte_perm(b.x, b.y, 0x7632), __byte_perm(b.z, b.w, 0x7632));
}

// d[query tile][8 positions each] += queries [16 kRows][width] times 16 keys, which are `row_bytes`
// apart. Queries are `width` + 8 numbers apart; e4m3: each 16 of them parted.
template <bool kE4M3, int kRows>
__device__ inline void MultiplyKeys(const unsigned char* keys, int row_bytes, int width,
                                    const __nv_bfloat16* queries, float (&d)[kRows][2][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int key = lane % 8 + lane / 16 * 8, second = lane / 8 % 2;
  const __nv_bfloat16* const query =
      queries + (lane % 8 + second * 8) * (width + 8) + lane / 16 * 8;
  const auto multiply = [&](int e, const uint32_t(&low)[2], const uint32_t(&high)[2]) {
#pragma unroll
    for (int m = 0; m < kRows; ++m) {
      uint32_t q[4];
      LoadMatrixX4(q, query + 16 * m * (width + 8) + e);
      Mma16816(d[m][0], q, low);
      Mma16816(d[m][1], q, high);
    }
  };
  if constexpr (kE4M3) {
#pragma unroll 4
    for (int e = 0; e < width; e += 32) {
      uint32_t k[4];  // Elements e.. and e + 16.. of positions 0-7, then of 8-15.
      LoadMatrixX4(k, keys + key * row_bytes + min(e + 16 * second, width - 16));
      const uint32_t low[2] = {WidenEven(k[0]), WidenOdd(k[0])};
      const uint32_t high[2] = {WidenEven(k[2]), WidenOdd(k[2])};
      multiply(e, low, high);
      if (e + 16 < width) {
        const uint32_t next_low[2] = {WidenEven(k[1]), WidenOdd(k[1])};
        const uint32_t next_high[2] = {WidenEven(k[3]), WidenOdd(k[3])};
        multiply(e + 16, next_low, next_high);
      }
    }
  } else {
#pragma unroll 4
    for (int e = 0; e < width; e += 16) {
      uint32_t k[4];  // Positions 0-7: k[0], k[1]; 8-15: k[2], k[3].
      LoadMatrixX4(k, keys + key * row_bytes + 2 * (e + 8 * second));
      const uint32_t low[2] = {k[0], k[1]}, high[2] = {k[2], k[3]};
      multiply(e, low, high);
    }
  }
}

// d[query tile][group of 16 columns] += weights [16 kRows][32 positions] times 32 values, for
// columns 16 (first + step i). e4m3: of each group the even columns, then the odd ones.
template <bool kE4M3, int kRows, int kGroups>
__device__ inline void MultiplyValues(const unsigned char* values, int row_bytes, int width,
                                      int first, int step, const __nv_bfloat16* weights,
                                      int weight_stride, float (&d)[kRows][kGroups][2][4]) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int down = lane % 8 + lane / 8 % 2 * 8, right = lane / 16 * 8;
  uint32_t bytes[kGroups][4];  // e4m3: of positions 0-7, 8-15, 16-23, 24-31.
  if constexpr (kE4M3) {
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      const int column = 16 * (first + step * i);
      if (column < width) LoadMatrixX4Transposed(bytes[i], values + lane * row_bytes + column);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    uint32_t v[kGroups][4];  // The first 8 columns, then the others.
#pragma unroll
    for (int i = 0; i < kGroups; ++i) {
      const int column = 16 * (first + step * i);
      if (column >= width) continue;
      if constexpr (kE4M3) {
        v[i][0] = WidenEven(bytes[i][2 * half]), v[i][1] = WidenEven(bytes[i][2 * half + 1]);
        v[i][2] = WidenOdd(bytes[i][2 * half]), v[i][3] = WidenOdd(bytes[i][2 * half + 1]);
      } else {
        LoadMatrixX4Transposed(v[i],
                               values + (16 * half + down) * row_bytes + 2 * (column + right));
      }
    }
#pragma unroll
    for (int m = 0; m < kRows; ++m) {
      uint32_t p[4];
      LoadMatrixX4(p, weights + (16 * m + down) * weight_stride + 16 * half + right);
#pragma unroll
      for (int i = 0; i < kGroups; ++i) {
        if (16 * (first + step * i) < width) {
          const uint32_t low[2] = {v[i][0], v[i][1]}, high[2] = {v[i][2], v[i][3]};
          Mma16816(d[m][i][0], p, low);
          Mma16816(d[m][i][1], p, high);
        }
      }
    }
  }
}

}  // namespace conclave::worker::cuda
