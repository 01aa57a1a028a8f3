#include "worker/backend/cuda/quantise.h"

#include <cmath>

#include "tests/unit/worker/backend/cuda/rig.h"

namespace conclave::worker::cuda {
namespace {

using QuantiseTest = Rig;

// Rows of very different sizes, one of zeros, and one whose greatest number is 448 * 2^n.
std::vector<float> Rows(int rows, int cols) {
  std::vector<float> values = Random(static_cast<size_t>(rows * cols), 3);
  for (int n = 0; n < rows; ++n) {
    for (int k = 0; k < cols; ++k) {
      float& v = values[static_cast<size_t>(n * cols + k)];
      v = n == 1 ? 0 : std::ldexp(v, 5 * n - 20);
      if (n == 2 && k == cols / 2) v = -448.0F / 1024;
    }
  }
  return values;
}

float LeastPowerOfTwo(float greatest) {
  float scale = 0x1p-126F;
  while (greatest > 448 * scale) scale *= 2;
  return scale;
}

TEST_F(QuantiseTest, AnE4M3RowsScaleIsTheLeastPowerOfTwo) {
  constexpr int kRows = 9, kCols = 200, kStride = 208;
  for (const DType dtype : {DType::kF32, DType::kBF16}) {
    const std::vector<float> values = Rounded(Rows(kRows, kCols), dtype);
    auto* numbers = Poisoned<__nv_fp8_e4m3>(kRows * kStride);
    float* scales = Poisoned<float>(kRows);
    Quantise(Upload(values, dtype, kRows, kCols, 203), Stored::kE4M3, kStride, numbers, scales,
             stream());
    const auto found = Download(numbers, kRows * kStride);
    const auto found_scales = Download(scales, kRows);
    for (int n = 0; n < kRows; ++n) {
      float greatest = 0;
      for (int k = 0; k < kCols; ++k) {
        greatest = std::max(greatest, std::abs(values[static_cast<size_t>(n * kCols + k)]));
      }
      const float scale = LeastPowerOfTwo(greatest);
      EXPECT_EQ(found_scales[n], scale) << n;
      for (int k = 0; k < kStride; ++k) {
        const float v = k < kCols ? values[static_cast<size_t>(n * kCols + k)] : 0;
        EXPECT_EQ(static_cast<float>(found[n * kStride + k]), RoundedE4M3(v / scale))
            << n << " " << k;
      }
    }
  }
}

TEST_F(QuantiseTest, AnInt4GroupIsScaledByItsGreatestNumber) {
  constexpr int kRows = 5, kCols = 384, kStride = 512;
  const std::vector<float> values = Rounded(Rows(kRows, kCols), DType::kBF16);
  auto* numbers = Poisoned<uint8_t>(kRows * kStride / 2);
  float* scales = Poisoned<float>(kRows * 3);
  Quantise(Upload(values, DType::kBF16, kRows, kCols, 392), Stored::kInt4, kStride, numbers, scales,
           stream());
  const auto found = Download(numbers, kRows * kStride / 2);
  const auto found_scales = Download(scales, kRows * 3);
  for (int n = 0; n < kRows; ++n) {
    for (int k = 0; k < kStride; ++k) {
      const int byte = found[(n * kStride + k) / 2];
      const int number = (k % 2 == 0 ? byte & 15 : byte >> 4) - 8;
      if (k >= kCols) {
        EXPECT_EQ(number, 0);
        continue;
      }
      float greatest = 0;
      for (int i = 0; i < kInt4Group; ++i) {
        const int at = n * kCols + k / kInt4Group * kInt4Group + i;
        greatest = std::max(greatest, std::abs(values[static_cast<size_t>(at)]));
      }
      const float scale = greatest / 7, v = values[static_cast<size_t>(n * kCols + k)];
      EXPECT_EQ(found_scales[n * 3 + k / kInt4Group], scale);
      EXPECT_GE(number, -7);
      EXPECT_LE(std::abs(static_cast<float>(number) * scale - v), scale * 0.5001F) << n << " " << k;
    }
  }
}

TEST_F(QuantiseTest, AWidenedMatrixIsItsNumbersRounded) {
  for (const Stored stored : {Stored::kE4M3, Stored::kInt4}) {
    for (const int64_t in : {128, 384, 9216}) {
      const int64_t rows = in > 1000 ? 2 : 19, stride = in + 128;
      const TestMatrix w = UploadMatrix(Random(static_cast<size_t>(rows * in), 7), rows, in, stored,
                                        stored == Stored::kE4M3 ? 128 : 0);
      const int64_t row = w.matrix.stride;
      EXPECT_EQ(row, stored == Stored::kE4M3 ? stride : in);
      const Tensor wide = Poisoned(DType::kBF16, rows, row);
      Widen(w.matrix, wide.data, stream());
      const std::vector<float> found = Download(wide);
      for (int64_t n = 0; n < rows; ++n) {
        for (int64_t k = 0; k < row; ++k) {
          const float v = k < in ? w.values[static_cast<size_t>(n * in + k)] : 0;
          ASSERT_EQ(found[static_cast<size_t>(n * row + k)], Rounded(v, DType::kBF16))
              << n << " " << k;
        }
      }
    }
  }
}

TEST_F(QuantiseTest, WhatE4M3HoldsIsWidenedExactly) {
  const std::vector<float> values = Rounded(Rows(9, 64), DType::kBF16);
  auto* numbers = Poisoned<__nv_fp8_e4m3>(9 * 64);
  float* scales = Poisoned<float>(9);
  Quantise(Upload(values, DType::kBF16, 9, 64), Stored::kE4M3, 64, numbers, scales, stream());
  const Tensor wide = Poisoned(DType::kBF16, 9, 64);
  Widen({numbers, Stored::kE4M3, 64, 9, 64, scales}, wide.data, stream());
  const std::vector<float> found = Download(wide), found_scales = Download(scales, 9);
  const auto found_numbers = Download(numbers, 9 * 64);
  for (size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i], static_cast<float>(found_numbers[i]) * found_scales[i / 64]) << i;
    const float tolerance = std::abs(values[i]) / 16 + found_scales[i / 64] * 0x1p-10F;
    EXPECT_NEAR(found[i], values[i], tolerance) << i;
  }
}

}  // namespace
}  // namespace conclave::worker::cuda
