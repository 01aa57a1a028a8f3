#pragma once

#include <cstdint>
#include <cstring>

#include "worker/backend/cuda/platform.h"

// How the tensor cores read a stored weight. A chunk is 16 bytes of a row: kNumbers numbers that
// one lane holds, and that it widens to pairs of bf16, exactly. The order of k within a chunk is
// free as long as x follows it, so each format takes the cheapest one. Pairs 2j and 2j + 1 go to
// the lane's j-th product (Mma16816). Sums are those of the numbers, by kUnit too small.
namespace conclave::worker::cuda {

// By memory: the halves, taken one by one, would cost instructions.
__device__ inline __nv_bfloat162 AsBf16x2(uint32_t bits) {
  __nv_bfloat162 pair;
  memcpy(static_cast<void*>(&pair), &bits, sizeof(pair));
  return pair;
}
__device__ inline uint32_t BitsOf(__nv_bfloat162 pair) {
  uint32_t bits;
  memcpy(&bits, static_cast<const void*>(&pair), sizeof(bits));
  return bits;
}

// bf16: as it lies.
struct Bf16Chunk {
  static constexpr int kNumbers = 8;
  static constexpr bool kGrouped = false;
  static constexpr float kUnit = 1;

  __device__ static void Widen(const uint4& chunk, uint32_t (&pairs)[4]) {
    pairs[0] = chunk.x;
    pairs[1] = chunk.y;
    pairs[2] = chunk.z;
    pairs[3] = chunk.w;
  }
  // x of the numbers [8 piece, 8 piece + 8) of a chunk, in the order of Widen.
  __device__ static void Order(const uint4& x, uint32_t* pairs) {
    pairs[0] = x.x;
    pairs[1] = x.y;
    pairs[2] = x.z;
    pairs[3] = x.w;
  }
};

// e4m3: its exponent and mantissa, moved to a bf16's place, are the number times 2^-120, subnormal
// ones too. x, times 2^60, and the sum, times kUnit, make up for it: powers of two, so exactly, for
// sums of 2^-66 and more and x below 2^67. (A NaN is no weight: it would read as 480.)
struct E4m3Chunk {
  static constexpr int kNumbers = 16;
  static constexpr bool kGrouped = false;
  static constexpr float kUnit = 0x1p60F;

  // Two numbers, bytes of `word`, with their signs spread over the byte above each: shifted, only
  // the exponent's upper bits must go.
  __device__ static uint32_t WidenPair(uint32_t word, uint32_t bytes) {
    return SelectBytes(word, bytes) << 4 & 0x87f087f0U;
  }
  __device__ static void Widen(const uint4& chunk, uint32_t (&pairs)[8]) {
    const uint32_t words[4] = {chunk.x, chunk.y, chunk.z, chunk.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      pairs[2 * i] = WidenPair(words[i], 0x9180);
      pairs[2 * i + 1] = WidenPair(words[i], 0xb3a2);
    }
  }
  __device__ static void Order(const uint4& x, uint32_t* pairs) {
    const uint32_t words[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      pairs[i] = BitsOf(__hmul2(AsBf16x2(words[i]), AsBf16x2(0x5d805d80U)));  // 2^60
    }
  }
};
// The number of one byte, by the same way.
__device__ inline float E4m3Number(uint32_t byte) {
  return __uint_as_float((byte & 0x80U) << 24 | (byte & 0x7fU) << 20) * 0x1p120F;
}

// int4 in groups of 128 along k: four chunks. With 0x43 above it a nibble is the bf16 128 + nibble;
// less 136 it is the number. A word's pairs are the numbers (p, p + 4), one shift apart.
struct Int4Chunk {
  static constexpr int kNumbers = 32;
  static constexpr bool kGrouped = true;
  static constexpr float kUnit = 1;

  __device__ static void Widen(const uint4& chunk, uint32_t (&pairs)[16]) {
    const uint32_t words[4] = {chunk.x, chunk.y, chunk.z, chunk.w};
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const uint32_t raised = (words[i / 4] >> (4 * (i % 4)) & 0x000f000fU) | 0x43004300U;
      pairs[i] = BitsOf(__hsub2(AsBf16x2(raised), AsBf16x2(0x43084308U)));
    }
  }
  __device__ static void Order(const uint4& x, uint32_t* pairs) {
    pairs[0] = __byte_perm(x.x, x.z, 0x5410);
    pairs[1] = __byte_perm(x.x, x.z, 0x7632);
    pairs[2] = __byte_perm(x.y, x.w, 0x5410);
    pairs[3] = __byte_perm(x.y, x.w, 0x7632);
  }
};

}  // namespace conclave::worker::cuda
