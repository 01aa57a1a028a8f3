#pragma once

#include <absl/status/statusor.h>

#include <string>

namespace conclave::bench {

// What this GPU can do at most, measured.
struct GpuCeilings {
  std::string name;
  double copy_gb = 0;        // GB/s of a device-to-device copy, bytes read and bytes written.
  double matrix_tflops = 0;  // Of a bf16 product of 8192 x 8192 x 8192, random numbers.
};

// The current device; kFailedPrecondition where there is none.
absl::StatusOr<GpuCeilings> MeasureGpuCeilings();

}  // namespace conclave::bench
