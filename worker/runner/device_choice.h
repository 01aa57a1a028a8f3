#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "worker/backend/cuda_loader.h"
#include "worker/backend/cuda_module.h"
#include "worker/backend/device.h"
#include "worker/collective/collective.h"

namespace conclave::worker {

// What ranks compute on. kAuto: GPUs where each rank of this host has one, else the CPU.
enum class DeviceKind : uint8_t { kAuto, kCpu, kCuda };

struct DeviceOptions {
  DeviceKind kind = DeviceKind::kAuto;
  std::string instruction_set = "auto";  // As MakeCpuDevice takes it.
  int threads = 1;
  CudaOptions cuda =
      {};  // The ordinal is the rank's: with fewer GPUs than ranks, ranks share them.
  int rank = 0, ranks = 1;  // Of this host.
  int group_ranks = 1;      // Of all hosts.
};

struct ChosenDevice {
  std::unique_ptr<Device> device;
  CudaModule* cuda = nullptr;  // Where the device is from; null on the CPU.
  int gpus = 0;                // Of this host, with `cuda`: fewer than ranks are shared.
  std::string why_no_cuda;     // With kAuto on the CPU.
  // With kAuto on the CPU: keys of the config that ask for something that only GPUs have.
  std::vector<std::string> unheeded;
};

// This rank's own choice. kInvalidArgument for what the device does not have; otherwise as
// LoadCuda(), CheckCollective(), MakeDevice() and MakeCpuDevice() say.
absl::StatusOr<ChosenDevice> ChooseDevice(const DeviceOptions& options, const CudaPlaces& places);

// A group computes on one kind of device: every rank calls this with its choice, at the same time,
// and goes on with the result. Where they differ, with kAuto all take the CPU, else it is
// kFailedPrecondition and names both kinds. As MakeCpuDevice() and the collective say.
absl::StatusOr<ChosenDevice> AgreeOnDevice(const DeviceOptions& options, ChosenDevice mine,
                                           Collective& ranks);

}  // namespace conclave::worker
