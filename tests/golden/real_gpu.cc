#include "common/status.h"
#include "tests/golden/gpu.h"
#include "worker/backend/cuda_loader.h"

namespace conclave::worker {

absl::StatusOr<std::unique_ptr<Device>> MakeGpu(const CudaOptions& options) {
  ASSIGN_OR_RETURN(const LoadedCuda cuda, LoadCuda(DefaultCudaPlaces()));
  return cuda.module->MakeDevice(options);
}

bool GpuIsEmulated() { return false; }

}  // namespace conclave::worker
