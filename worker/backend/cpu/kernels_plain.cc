#define CONCLAVE_ISA plain
#define CONCLAVE_ISA_NAME "plain"
#include "worker/backend/cpu/kernels.inc"

namespace conclave::worker {

const Kernels& PlainKernels() { return plain::kKernels; }

}  // namespace conclave::worker
