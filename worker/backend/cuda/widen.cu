#include "worker/backend/cuda/quantise.h"

namespace conclave::worker::cuda {
namespace {

constexpr int kThreads = 256;
// Pieces of 8 numbers that one thread has under way at once: 16 bytes written for each, side by
// side with its neighbours'.
constexpr int kPieces = 4;

__device__ inline uint32_t PackBf16(float low, float high) {
  const uint32_t l = __bfloat16_as_ushort(__float2bfloat16_rn(low));
  const uint32_t h = __bfloat16_as_ushort(__float2bfloat16_rn(high));
  return l | h << 16;
}

__device__ inline float E4M3(uint32_t byte) {
  __nv_fp8_e4m3 number;
  number.__x = static_cast<__nv_fp8_storage_t>(byte);
  return static_cast<float>(number);
}

// Two numbers of a word, by their place in it.
__device__ inline uint32_t E4M3Pair(uint32_t word, int pair, float scale) {
  const uint32_t bytes = word >> (16 * pair);
  return PackBf16(scale * E4M3(bytes & 0xff), scale * E4M3(bytes >> 8 & 0xff));
}
__device__ inline uint32_t Int4Pair(uint32_t word, int pair, float scale) {
  const uint32_t nibbles = word >> (8 * pair);
  return PackBf16(scale * static_cast<float>(static_cast<int>(nibbles & 15) - 8),
                  scale * static_cast<float>(static_cast<int>(nibbles >> 4 & 15) - 8));
}

__global__ void __launch_bounds__(kThreads)
    WidenE4M3Kernel(const uint2* from, const float* scales, int64_t row_pieces, uint4* to) {
  const int64_t row = blockIdx.y;
  const float scale = scales[row];
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads * kPieces + threadIdx.x;
  uint2 v[kPieces];
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const int64_t piece = first + i * kThreads;
    if (piece < row_pieces) v[i] = from[row * row_pieces + piece];
  }
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const int64_t piece = first + i * kThreads;
    if (piece < row_pieces) {
      to[row * row_pieces + piece] =
          make_uint4(E4M3Pair(v[i].x, 0, scale), E4M3Pair(v[i].x, 1, scale),
                     E4M3Pair(v[i].y, 0, scale), E4M3Pair(v[i].y, 1, scale));
    }
  }
}

__global__ void __launch_bounds__(kThreads)
    WidenInt4Kernel(const uint32_t* from, const float* scales, int64_t row_pieces, int64_t groups,
                    uint4* to) {
  const int64_t row = blockIdx.y;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kThreads * kPieces + threadIdx.x;
  uint32_t v[kPieces];
  float scale[kPieces];
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const int64_t piece = first + i * kThreads, group = piece / (kInt4Group / 8);
    if (piece < row_pieces) v[i] = from[row * row_pieces + piece];
    scale[i] = group < groups ? scales[row * groups + group] : 0.0f;  // 0: padding.
  }
#pragma unroll
  for (int i = 0; i < kPieces; ++i) {
    const int64_t piece = first + i * kThreads;
    if (piece < row_pieces) {
      to[row * row_pieces + piece] =
          make_uint4(Int4Pair(v[i], 0, scale[i]), Int4Pair(v[i], 1, scale[i]),
                     Int4Pair(v[i], 2, scale[i]), Int4Pair(v[i], 3, scale[i]));
    }
  }
}

// grid.y has 16 bits.
constexpr int64_t kMostRows = 65535;

}  // namespace

void Widen(const Matrix& from, void* to, cudaStream_t stream) {
  const int64_t row_pieces = from.stride / 8, groups = (from.in + kInt4Group - 1) / kInt4Group;
  const unsigned columns =
      static_cast<unsigned>((row_pieces + kThreads * kPieces - 1) / (kThreads * kPieces));
  for (int64_t row = 0; row < from.out; row += kMostRows) {
    const unsigned rows =
        static_cast<unsigned>(from.out - row < kMostRows ? from.out - row : kMostRows);
    const LaunchShape shape{dim3(columns, rows), dim3(kThreads), 0, stream};
    uint4* const out = static_cast<uint4*>(to) + row * row_pieces;
    if (from.stored == Stored::kE4M3) {
      Launch(WidenE4M3Kernel, shape, static_cast<const uint2*>(from.data) + row * row_pieces,
             from.scales + row, row_pieces, out);
    } else {
      Launch(WidenInt4Kernel, shape, static_cast<const uint32_t*>(from.data) + row * row_pieces,
             from.scales + row * groups, row_pieces, groups, out);
    }
  }
}

}  // namespace conclave::worker::cuda
