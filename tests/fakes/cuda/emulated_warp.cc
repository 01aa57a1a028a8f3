// The operations of a whole warp on matrices (platform.h says where each lane's numbers lie). The
// last lane to come does the work of all.

#include <cuda_runtime.h>

#include <bit>
#include <cstring>

#include "worker/backend/cuda/platform.h"

namespace conclave::worker::cuda::emulated {
namespace {

float Low(uint32_t pair) { return std::bit_cast<float>(pair << 16); }
float High(uint32_t pair) { return std::bit_cast<float>(pair & 0xffff0000U); }

}  // namespace

void MultiplyLanes(Lane* lanes) {
  float a[16][16], b[16][8], d[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    const auto* pairs = static_cast<const uint32_t*>(lanes[lane].first);
    for (int i = 0; i < 4; ++i) {
      float* to = &a[g + i % 2 * 8][2 * t + i / 2 * 8];
      to[0] = Low(pairs[i]);
      to[1] = High(pairs[i]);
    }
    pairs = static_cast<const uint32_t*>(lanes[lane].second);
    for (int i = 0; i < 2; ++i) {
      b[2 * t + 8 * i][g] = Low(pairs[i]);
      b[2 * t + 8 * i + 1][g] = High(pairs[i]);
    }
    const auto* sums = static_cast<const float*>(lanes[lane].result);
    for (int i = 0; i < 4; ++i) d[g + i / 2 * 8][2 * t + i % 2] = sums[i];
  }
  for (int row = 0; row < 16; ++row) {
    for (int k = 0; k < 16; ++k) {
      for (int col = 0; col < 8; ++col) d[row][col] += a[row][k] * b[k][col];
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    const int g = lane / 4, t = lane % 4;
    auto* sums = static_cast<float*>(lanes[lane].result);
    for (int i = 0; i < 4; ++i) sums[i] = d[g + i / 2 * 8][2 * t + i % 2];
  }
}

void LoadMatrixLanes(Lane* lanes) {
  for (int lane = 0; lane < 32; ++lane) {
    auto* result = static_cast<uint32_t*>(lanes[lane].result);
    for (int i = 0; i < 4; ++i) {
      std::memcpy(&result[i],
                  static_cast<const char*>(lanes[8 * i + lane / 4].first) + lane % 4 * 4, 4);
    }
  }
}

void LoadMatrixLanesTransposed(Lane* lanes) {
  for (int lane = 0; lane < 32; ++lane) {
    auto* result = static_cast<uint32_t*>(lanes[lane].result);
    for (int i = 0; i < 4; ++i) {
      uint16_t pair[2];
      for (int j = 0; j < 2; ++j) {
        const auto* row = static_cast<const char*>(lanes[8 * i + lane % 4 * 2 + j].first);
        std::memcpy(&pair[j], row + lane / 4 * 2, 2);
      }
      std::memcpy(&result[i], pair, 4);
    }
  }
}

}  // namespace conclave::worker::cuda::emulated
