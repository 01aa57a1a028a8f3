#pragma once

#include <absl/status/statusor.h>

#include <memory>

#include "worker/backend/cuda/platform.h"
#include "worker/backend/cuda_module.h"
#include "worker/backend/device.h"

namespace conclave::worker::cuda {

// One GPU. Operations are launched on one stream, in call order. What goes wrong sticks: every
// later Synchronize(), Download(), BeginDraw() and TakeDraw() returns it, and the rank ends. Who
// waits keeps a core busy: a step's end is seen microseconds later.
class CudaDevice : public Device {
 public:
  // Where its work runs: a collective of the same rank puts its own there.
  virtual cudaStream_t stream() const = 0;
  virtual int ordinal() const = 0;
  // Steps that were replayed from a recording, for tests and logs.
  virtual int64_t replays() const = 0;
};

// kFailedPrecondition for a GPU that is not there, is too old, or is none that the kernels were
// compiled for; kInvalidArgument for formats that do not go together.
absl::StatusOr<std::unique_ptr<CudaDevice>> MakeCudaDevice(const CudaOptions& options);

}  // namespace conclave::worker::cuda
