#pragma once

#include <absl/status/statusor.h>

#include <filesystem>
#include <string>
#include <vector>

#include "worker/backend/cuda_module.h"

namespace conclave::worker {

// Where the parts of CUDA are looked for.
struct CudaPlaces {
  std::string driver = "libcuda.so.1";         // As dlopen takes it.
  std::vector<std::filesystem::path> folders;  // Of the module, the first that has it.
};
// The module beside the executable, or in ../lib of there.
CudaPlaces DefaultCudaPlaces();

struct LoadedCuda {
  CudaModule* module = nullptr;  // Lives until the process ends.
  int devices = 0;               // At least 1.
};

// The GPUs of this machine. Asks the driver first, so that a machine without one loads nothing and
// loses no time. Each failure is one sentence that says what to do: kNotFound where there is no
// driver, no GPU or no module, kFailedPrecondition where there is one that can't be used.
absl::StatusOr<LoadedCuda> LoadCuda(const CudaPlaces& places);

}  // namespace conclave::worker
