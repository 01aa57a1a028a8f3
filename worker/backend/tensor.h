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
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0, cols = 0;
  int64_t stride = 0;

  static Tensor Dense(void* data, DType dtype, int64_t rows, int64_t cols) {
    return {data, dtype, rows, cols, cols};
  }
  static Tensor Dense(float* data, int64_t rows, int64_t cols) {
    return Dense(data, DType::kF32, rows, cols);
  }
  void* at(int64_t row, int64_t col) const {
    return static_cast<char*>(data) + (row * stride + col) * static_cast<int64_t>(BytesOf(dtype));
  }
  // REQUIRES: dtype is kF32.
  float* row(int64_t i) const { return static_cast<float*>(data) + i * stride; }
  Tensor Columns(int64_t from, int64_t count) const {
    return {at(0, from), dtype, rows, count, stride};
  }
  Tensor Rows(int64_t from, int64_t count) const {
    return {at(from, 0), dtype, count, cols, stride};
  }
};

}  // namespace conclave::worker
