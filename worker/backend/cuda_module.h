#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <string>

#include "worker/backend/device.h"

namespace conclave::worker {

class Collective;

// What a GPU is asked to be. Everything but the ordinal and the graphs is part of the fingerprint.
struct CudaOptions {
  // Activations; kAuto: f32 where the weights are f32, else bf16.
  enum class Compute : uint8_t { kAuto, kF32, kBF16 };
  // Matrices of the layers; the embedding, the head and routers stay as the file has them.
  enum class Weights : uint8_t { kAsStored, kFp8, kInt4 };
  enum class Kv : uint8_t { kAsActivations, kFp8 };

  int ordinal = 0;
  Compute compute = Compute::kAuto;
  Weights weights = Weights::kAsStored;
  Kv kv = Kv::kAsActivations;
  // Whether steps without prompt rows are recorded and replayed. The bits are the same.
  bool graphs = true;

  bool operator==(const CudaOptions&) const = default;
};

// Where a rank on a GPU stands among those that sum with it.
struct CollectiveSeat {
  int rank = 0, size = 1;  // Of all hosts.
  // Some host has fewer GPUs than ranks. The same on all of them.
  bool devices_are_shared = false;
  // By which other hosts reach this one, as numbers. Empty: all ranks are on this host.
  std::string address = {};
};

// The GPU module: a library of its own, so that one worker runs with and without CUDA. Lives until
// the process ends. Its libraries are loaded with it; nothing of CUDA can be seen here.
class CudaModule {
 public:
  virtual ~CudaModule() = default;
  // One GPU as a device. kResourceExhausted, kFailedPrecondition.
  virtual absl::StatusOr<std::unique_ptr<Device>> MakeDevice(const CudaOptions& options) = 0;
  // Whether ranks on GPUs can be joined here: kUnimplemented when the module was built without
  // NCCL, kFailedPrecondition when NCCL is not there.
  virtual absl::Status CheckCollective() = 0;
  // The name of a new group: rank 0 makes it, and gives it to the others. Fails as
  // CheckCollective() does.
  virtual absl::StatusOr<std::string> MakeCollectiveId(const CollectiveSeat& seat) = 0;
  // Waits for all ranks of the group. Each has a GPU of its own; where a host has fewer than ranks,
  // they share them, which is slow. `host` joins the same ranks for what is in host memory.
  // `device` is one of MakeDevice(); it and `host` must outlive the result.
  virtual absl::StatusOr<std::unique_ptr<Collective>> MakeCollective(Device& device,
                                                                     const CollectiveSeat& seat,
                                                                     const std::string& id,
                                                                     Collective& host) = 0;
};

// What the module's one function returns. `abi` is first and never moves: nothing else is touched
// when it differs.
struct CudaModuleEntry {
  const char* abi = nullptr;     // CONCLAVE_DEVICE_ABI of the module's build.
  int runtime_version = 0;       // Of the CUDA runtime in it: 13000 is 13.0.
  CudaModule* module = nullptr;  // Never deleted.
};
inline constexpr char kCudaModuleFunction[] = "ConclaveCudaModule";
inline constexpr char kCudaModuleFile[] = "libconclave_cuda.so";

}  // namespace conclave::worker
