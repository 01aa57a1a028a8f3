#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

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

// Number `i` of an array of `dtype`; exact.
inline float NumberAt(const void* data, DType dtype, int64_t i) {
  if (dtype == DType::kF32) return static_cast<const float*>(data)[i];
  const uint16_t half = static_cast<const uint16_t*>(data)[i];
  return dtype == DType::kBF16 ? FromBf16(half) : FromF16(half);
}

}  // namespace conclave::worker
