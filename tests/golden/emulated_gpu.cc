#include "tests/golden/gpu.h"
#include "worker/backend/cuda/cuda_device.h"

namespace conclave::worker {

absl::StatusOr<std::unique_ptr<Device>> MakeGpu(const CudaOptions& options) {
  return cuda::MakeCudaDevice(options);
}

bool GpuIsEmulated() { return true; }

}  // namespace conclave::worker
