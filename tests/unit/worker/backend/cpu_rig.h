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

// Rows held in memory. Values are cut to what the type holds, so that they are exact.
class MemoryRows : public RowSource {
 public:
  MemoryRows(std::vector<float>& values, int cols, DType dtype)
      : values_(values), cols_(cols), dtype_(dtype) {
    for (float& v : values) v = Cut(v);
  }
  int64_t rows() const override { return static_cast<int64_t>(values_.size()) / cols_; }
  int64_t cols() const override { return cols_; }
  DType dtype() const override { return dtype_; }
  void Read(int64_t row, void* to) const override {
    const float* from = values_.data() + row * cols_;
    for (int i = 0; i < cols_; ++i) {
      if (dtype_ == DType::kF32) static_cast<float*>(to)[i] = from[i];
      if (dtype_ == DType::kF16) static_cast<_Float16*>(to)[i] = static_cast<_Float16>(from[i]);
      if (dtype_ == DType::kBF16) {
        static_cast<uint16_t*>(to)[i] =
            static_cast<uint16_t>(std::bit_cast<uint32_t>(from[i]) >> 16);
      }
    }
  }

 private:
  float Cut(float v) const {
    if (dtype_ == DType::kF16) return static_cast<float>(static_cast<_Float16>(v));
    return dtype_ == DType::kBF16 ? std::bit_cast<float>(std::bit_cast<uint32_t>(v) & 0xffff0000u)
                                  : v;
  }

  const std::vector<float>& values_;
  const int cols_;
  const DType dtype_;
};

inline std::unique_ptr<Weight> PackRows(Device& device, std::vector<float>& values, int cols,
                                        DType dtype) {
  const MemoryRows rows(values, cols, dtype);
  return *device.Pack({&rows});
}

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
