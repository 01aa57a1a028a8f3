#pragma once

#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "worker/backend/cuda/matrix.h"
#include "worker/backend/tensor.h"

// Numbers of the kernels' tests, and how the formats hold them.
namespace conclave::worker::cuda {

// Normal numbers, the same for the same seed.
inline std::vector<float> Random(size_t n, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& v : values) v = normal(generator);
  return values;
}

// What a type holds of a number.
inline float Rounded(float value, DType dtype) {
  return dtype == DType::kBF16 ? __bfloat162float(__float2bfloat16(value)) : value;
}
inline std::vector<float> Rounded(std::vector<float> values, DType dtype) {
  for (float& v : values) v = Rounded(v, dtype);
  return values;
}
inline float RoundedE4M3(float value) { return static_cast<float>(__nv_fp8_e4m3(value)); }

// A weight as its format stores it, and the numbers that it then holds exactly, [out][in].
struct PackedMatrix {
  std::vector<uint8_t> bytes;
  std::vector<float> scales, values;
};

// values [out][in], with `padding` more elements a row that are zero. e4m3: a scale for each row.
// int4: one for each group of 128.
inline PackedMatrix PackMatrix(const std::vector<float>& values, int64_t out, int64_t in,
                               Stored stored, int64_t padding) {
  const int64_t stride = in + padding;
  PackedMatrix result = {{}, {}, values};
  std::vector<float>& scales = result.scales;
  std::vector<uint8_t>& bytes = result.bytes;
  const auto greatest = [&](int64_t row, int64_t from, int64_t to) {
    float most = 0;
    for (int64_t k = from; k < to; ++k) most = std::max(most, std::abs(values[row * in + k]));
    return most == 0 ? 1 : most;
  };
  const auto append = [&](const auto& number) {
    const size_t at = bytes.size();
    bytes.resize(at + sizeof(number));
    std::memcpy(bytes.data() + at, &number, sizeof(number));
  };
  for (int64_t row = 0; row < out; ++row) {
    if (stored == Stored::kE4M3) scales.push_back(greatest(row, 0, in) / 448);
    for (int64_t k = 0; k < stride; ++k) {
      float none = 0;
      float& v = k < in ? result.values[static_cast<size_t>(row * in + k)] : none;
      switch (stored) {
        case Stored::kF32:
          append(v);
          break;
        case Stored::kBF16: {
          const __nv_bfloat16 rounded = __float2bfloat16(v);
          append(rounded);
          v = __bfloat162float(rounded);
          break;
        }
        case Stored::kE4M3: {
          const __nv_fp8_e4m3 rounded(v / scales.back());
          append(rounded);
          v = static_cast<float>(rounded) * scales.back();
          break;
        }
        case Stored::kInt4: {
          if (k < in && k % kInt4Group == 0) {
            scales.push_back(greatest(row, k, std::min(in, k + kInt4Group)) / 7);
          }
          const int number = std::clamp(static_cast<int>(std::lround(v / scales.back())), -8, 7);
          const auto nibble = static_cast<uint8_t>(number + 8);
          if (k % 2 == 0) {
            append(nibble);
          } else {
            bytes.back() |= static_cast<uint8_t>(nibble << 4);
          }
          v = static_cast<float>(number) * scales.back();
          break;
        }
      }
    }
  }
  return result;
}

// The bits of numbers, to compare rows exactly (NaN too).
inline std::vector<uint32_t> BitsOf(const std::vector<float>& values) {
  std::vector<uint32_t> bits(values.size());
  if (!values.empty()) std::memcpy(bits.data(), values.data(), values.size() * sizeof(float));
  return bits;
}

// Whether a sum of terms is near enough to the exact one: `terms` is the sum of their absolute
// values; `out` rounds once more.
inline testing::AssertionResult Near(float found, double expected, double terms,
                                     DType out = DType::kF32) {
  const double tolerance =
      1e-5 * terms + (out == DType::kBF16 ? std::abs(expected) / 256 : 0) + 1e-30;
  if (std::abs(found - expected) <= tolerance) return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << found << " is not near " << expected << " (tolerance " << tolerance << ")";
}

}  // namespace conclave::worker::cuda
