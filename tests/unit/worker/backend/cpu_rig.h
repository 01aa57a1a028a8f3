#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "worker/backend/cpu/cpu_device.h"

namespace conclave::worker {

// Normal numbers, the same for the same seed.
inline std::vector<float> Random(size_t n, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(n);
  for (float& v : values) v = normal(generator);
  return values;
}

// Rows held in memory, as f32 or as bf16 (cut, so that the values are exact).
class MemoryRows : public RowSource {
 public:
  MemoryRows(std::vector<float>& values, int cols, DType dtype)
      : values_(values), cols_(cols), dtype_(dtype) {
    if (dtype == DType::kBF16) {
      for (float& v : values) v = std::bit_cast<float>(std::bit_cast<uint32_t>(v) & 0xffff0000u);
    }
  }
  int64_t rows() const override { return static_cast<int64_t>(values_.size()) / cols_; }
  int64_t cols() const override { return cols_; }
  DType dtype() const override { return dtype_; }
  void Read(int64_t row, void* to) const override {
    const float* from = values_.data() + row * cols_;
    if (dtype_ == DType::kF32) {
      std::copy_n(from, cols_, static_cast<float*>(to));
      return;
    }
    for (int i = 0; i < cols_; ++i) {
      static_cast<uint16_t*>(to)[i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(from[i]) >> 16);
    }
  }

 private:
  const std::vector<float>& values_;
  const int cols_;
  const DType dtype_;
};

// Every instruction set of this machine, with one thread and with three.
inline std::vector<std::unique_ptr<Device>> AllDevices() {
  std::vector<std::unique_ptr<Device>> devices;
  for (const char* set : {"plain", "avx2", "avx512"}) {
    for (const int threads : {1, 3}) {
      auto device = MakeCpuDevice(set, threads);
      if (device.ok()) devices.push_back(*std::move(device));
    }
  }
  return devices;
}

}  // namespace conclave::worker
