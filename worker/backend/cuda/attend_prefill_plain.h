#pragma once

#include "worker/backend/cuda/attend.h"

namespace conclave::worker::cuda {

// AttendPrefill without tensor cores, for any head width and any types: every prompt row alone. For
// exact tests and odd models; bound by its loads.
void AttendPrefillPlain(const AttendArgs& args, cudaStream_t stream);

}  // namespace conclave::worker::cuda
