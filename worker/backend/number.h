#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "worker/backend/tensor.h"

namespace conclave::worker {

inline float FromBf16(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

inline float FromF16(uint16_t bits) {
  const int sign = bits >> 15, exponent = bits >> 10 & 31, fraction = bits & 1023;
  const float value = exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                      : exponent == 31
                          ? (fraction ? NAN : INFINITY)
                          : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  return sign ? -value : value;
}

// Number `i` of an array of `dtype`; exact. The array need not be aligned: a file's are not.
inline float NumberAt(const void* data, DType dtype, int64_t i) {
  const char* const at = static_cast<const char*>(data) + i * static_cast<int64_t>(BytesOf(dtype));
  if (dtype == DType::kF32) {
    float value;
    std::memcpy(&value, at, sizeof(value));
    return value;
  }
  uint16_t half;
  std::memcpy(&half, at, sizeof(half));
  return dtype == DType::kBF16 ? FromBf16(half) : FromF16(half);
}

}  // namespace conclave::worker
