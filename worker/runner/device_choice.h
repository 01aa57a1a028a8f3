#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <string>

#include "worker/backend/cuda_loader.h"
#include "worker/backend/cuda_module.h"
#include "worker/backend/device.h"

namespace conclave::worker {

// What ranks compute on. kAuto: GPUs where each rank of this host has one, else the CPU.
enum class DeviceKind : uint8_t { kAuto, kCpu, kCuda };

struct DeviceOptions {
  DeviceKind kind = DeviceKind::kAuto;
  std::string instruction_set = "auto";  // As MakeCpuDevice takes it.
  int threads = 1;
  CudaOptions cuda =
      {};  // The ordinal is the rank's: with fewer GPUs than ranks, ranks share them.
  int rank = 0, ranks = 1;
};

struct ChosenDevice {
  std::unique_ptr<Device> device;
  CudaModule* cuda = nullptr;  // Where the device is from; null on the CPU.
  std::string why_no_cuda;     // With kAuto on the CPU.
};

// Ranks of a host whose GPUs are alike choose alike. kInvalidArgument for what the device does not
// have; otherwise as LoadCuda(), MakeDevice() and MakeCpuDevice() say.
absl::StatusOr<ChosenDevice> ChooseDevice(const DeviceOptions& options, const CudaPlaces& places);

}  // namespace conclave::worker
