#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <string>

#include "worker/backend/device.h"

namespace conclave::worker {

// The CPU as a device. `instruction_set`: "auto" (the best that this machine has), "avx512", "avx2"
// or "plain"; all give the same bits. kInvalidArgument for another word, kFailedPrecondition for a
// set that the machine lacks. Products of x in f32 with weights kept as the file has them (f32,
// bf16 or f16, made f32 exactly), summed in f32. `threads` (1 to 256) share out rows and columns;
// the bits do not depend on it.
absl::StatusOr<std::unique_ptr<Device>> MakeCpuDevice(const std::string& instruction_set,
                                                      int threads = 1);

}  // namespace conclave::worker
