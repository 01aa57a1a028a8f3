#pragma once

#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "worker/backend/cuda/matrix.h"
#include "worker/backend/cuda/platform.h"
#include "worker/backend/tensor.h"

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

// A weight in device memory, and the numbers that it holds exactly, [out][in].
struct TestMatrix {
  Matrix matrix;
  std::vector<float> values;
};

// The base of tests with a device: memory that lives as long as the test, and a stream. Skips
// where there is no device.
class Rig : public testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    const cudaError_t error = cudaGetDeviceCount(&devices);
    if (error != cudaSuccess || devices == 0) {
      (void)cudaGetLastError();
      GTEST_SKIP() << "no CUDA device: " << cudaGetErrorString(error);
    }
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
  }
  void TearDown() override {
    if (stream_ == nullptr) return;
    Sync();
    for (void* memory : memory_) EXPECT_EQ(cudaFree(memory), cudaSuccess);
    EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess);
  }

  cudaStream_t stream() const { return stream_; }
  // Waits, and fails the test if anything went wrong on the way.
  void Sync() {
    EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "of a launch";
    const cudaError_t error = cudaStreamSynchronize(stream_);
    ASSERT_EQ(error, cudaSuccess) << cudaGetErrorString(error);
  }

  // Device memory full of NaN (every byte 0xff).
  template <typename T>
  T* Poisoned(size_t count) {
    void* memory = nullptr;
    const size_t bytes = std::max<size_t>(count * sizeof(T), 1);
    EXPECT_EQ(cudaMalloc(&memory, bytes), cudaSuccess);
    memory_.push_back(memory);
    EXPECT_EQ(cudaMemsetAsync(memory, 0xff, bytes, stream_), cudaSuccess);
    Sync();
    return static_cast<T*>(memory);
  }
  template <typename T>
  T* Upload(const std::vector<T>& values) {
    T* memory = Poisoned<T>(values.size());
    if (!values.empty()) {
      EXPECT_EQ(cudaMemcpyAsync(memory, values.data(), values.size() * sizeof(T),
                                cudaMemcpyHostToDevice, stream_),
                cudaSuccess);
    }
    Sync();
    return memory;
  }
  // Waits for the stream first.
  template <typename T>
  std::vector<T> Download(const T* memory, size_t count) {
    std::vector<T> values(count);
    if (count > 0) {
      EXPECT_EQ(cudaMemcpyAsync(values.data(), memory, count * sizeof(T), cudaMemcpyDeviceToHost,
                                stream_),
                cudaSuccess);
    }
    Sync();
    return values;
  }

  // Rows of NaN to write to; `stride` 0 is dense.
  Tensor Poisoned(DType dtype, int64_t rows, int64_t cols, int64_t stride = 0) {
    if (stride == 0) stride = cols;
    char* memory = Poisoned<char>(static_cast<size_t>(rows * stride) * BytesOf(dtype));
    return {memory, dtype, rows, cols, stride};
  }
  // values [rows][cols], rounded to the type; what lies between rows is NaN.
  Tensor Upload(const std::vector<float>& values, DType dtype, int64_t rows, int64_t cols,
                int64_t stride = 0) {
    if (stride == 0) stride = cols;
    std::vector<char> bytes(static_cast<size_t>(rows * stride) * BytesOf(dtype), '\xff');
    Tensor host = {bytes.data(), dtype, rows, cols, stride};
    for (int64_t n = 0; n < rows; ++n) {
      for (int64_t i = 0; i < cols; ++i) {
        const float v = values[static_cast<size_t>(n * cols + i)];
        if (dtype == DType::kF32) {
          std::memcpy(host.at(n, i), &v, 4);
        } else {
          const __nv_bfloat16 rounded = __float2bfloat16(v);
          std::memcpy(host.at(n, i), &rounded, 2);
        }
      }
    }
    return {Upload(bytes), dtype, rows, cols, stride};
  }
  // [rows][cols] as f32. Waits for the stream first.
  std::vector<float> Download(Tensor from) {
    const size_t count = static_cast<size_t>(from.rows * from.stride);
    std::vector<char> bytes =
        Download(static_cast<const char*>(from.data), count * BytesOf(from.dtype));
    std::vector<float> values;
    Tensor host = from;
    host.data = bytes.data();
    for (int64_t n = 0; n < from.rows; ++n) {
      for (int64_t i = 0; i < from.cols; ++i) {
        if (from.dtype == DType::kF32) {
          values.push_back(host.row(n)[i]);
        } else {
          __nv_bfloat16 v;
          std::memcpy(&v, host.at(n, i), 2);
          values.push_back(__bfloat162float(v));
        }
      }
    }
    return values;
  }

  // values [out][in] as a weight of this format, with `padding` more elements a row that are zero.
  // e4m3: a scale for each row. int4: one for each group of 128.
  TestMatrix UploadMatrix(const std::vector<float>& values, int64_t out, int64_t in, Stored stored,
                          int64_t padding = 0);

 private:
  cudaStream_t stream_ = nullptr;
  std::vector<void*> memory_;
};

inline TestMatrix Rig::UploadMatrix(const std::vector<float>& values, int64_t out, int64_t in,
                                    Stored stored, int64_t padding) {
  const int64_t stride = in + padding;
  TestMatrix result = {{nullptr, stored, in, out, stride, nullptr}, values};
  std::vector<float> scales;
  std::vector<uint8_t> bytes;
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
  result.matrix.data = Upload(bytes);
  if (!scales.empty()) result.matrix.scales = Upload(scales);
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
