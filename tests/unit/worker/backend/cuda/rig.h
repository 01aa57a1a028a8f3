#pragma once

#include <cuda_bf16.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "tests/unit/worker/backend/cuda/test_numbers.h"
#include "worker/backend/cuda/matrix.h"
#include "worker/backend/cuda/platform.h"
#include "worker/backend/tensor.h"

namespace conclave::worker::cuda {

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
  TestMatrix UploadMatrix(const std::vector<float>& values, int64_t out, int64_t in, Stored stored,
                          int64_t padding = 0) {
    const PackedMatrix packed = PackMatrix(values, out, in, stored, padding);
    TestMatrix result = {{nullptr, stored, in, out, in + padding, nullptr}, packed.values};
    result.matrix.data = Upload(packed.bytes);
    if (!packed.scales.empty()) result.matrix.scales = Upload(packed.scales);
    return result;
  }

 private:
  cudaStream_t stream_ = nullptr;
  std::vector<void*> memory_;
};

#ifdef CONCLAVE_CUDA_EMULATED
// While it lives, blocks have this much shared memory: that of cards that are not for data centres.
class LittleShared {
 public:
  explicit LittleShared(size_t kib = 99) { emulated::most_shared = kib << 10; }
  ~LittleShared() { emulated::most_shared = before_; }

 private:
  const size_t before_ = emulated::most_shared;
};
#endif

}  // namespace conclave::worker::cuda
