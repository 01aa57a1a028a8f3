#pragma once

#include <cstdint>

namespace conclave::worker::cuda {

// How a weight's numbers lie in device memory.
enum class Stored : uint8_t { kF32, kBF16, kE4M3, kInt4 };

inline constexpr int kInt4Group = 128;  // Along `in`; `in` is a multiple of it.

// W [out][in], row-major, aligned to 256 bytes; `in` is a multiple of 8 (kE4M3: 16, kInt4: 128), or
// the device has padded it with zeros up to `stride` elements a row.
struct Matrix {
  const void* data = nullptr;
  Stored stored = Stored::kBF16;
  int64_t in = 0, out = 0;
  int64_t stride = 0;  // Elements from one row to the next.
  // kE4M3: [out], w = scale * number. kInt4: [out][in / 128], w = scale * (nibble - 8); the lower
  // nibble is the lower k.
  const float* scales = nullptr;
};

}  // namespace conclave::worker::cuda
