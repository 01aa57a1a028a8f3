#pragma once

#include <absl/status/statusor.h>

#include <memory>

#include "worker/backend/cuda_module.h"
#include "worker/backend/device.h"

namespace conclave::worker {

// A GPU for tests: of this machine or, in the emulated build of the same tests, the emulator's.
// kNotFound where there is none.
absl::StatusOr<std::unique_ptr<Device>> MakeGpu(const CudaOptions& options);
// Whether it is an emulated one, on which little can be computed.
bool GpuIsEmulated();

}  // namespace conclave::worker
