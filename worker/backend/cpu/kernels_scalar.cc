#define CONCLAVE_ISA scalar
#define CONCLAVE_ISA_NAME "scalar"
#include "worker/backend/cpu/kernels.inc"

namespace conclave::worker {

const Kernels& ScalarKernels() { return scalar::kKernels; }

}  // namespace conclave::worker
