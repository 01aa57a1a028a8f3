#pragma once

#include <cstddef>
#include <cstdint>

namespace conclave::worker {

// Dimensions are named by one letter everywhere: N tokens, D model width, H heads, E head width, F
// feed-forward width, V vocabulary, R ranks.

enum class DType : uint8_t { kF32, kBF16, kF16 };

constexpr size_t BytesOf(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

// A view of rows in a device's memory; owns nothing. `stride`: elements from one row to the next.
struct Tensor {
  float* data = nullptr;
  int64_t rows = 0, cols = 0;
  int64_t stride = 0;

  static Tensor Dense(float* data, int64_t rows, int64_t cols) { return {data, rows, cols, cols}; }
  float* row(int64_t i) const { return data + i * stride; }
  Tensor Columns(int64_t from, int64_t count) const { return {data + from, rows, count, stride}; }
  Tensor Rows(int64_t from, int64_t count) const { return {row(from), count, cols, stride}; }
};

}  // namespace conclave::worker
