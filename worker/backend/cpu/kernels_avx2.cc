#define CONCLAVE_ISA avx2
#define CONCLAVE_ISA_NAME "avx2"
#include "worker/backend/cpu/kernels.inc"

namespace conclave::worker {

const Kernels& Avx2Kernels() { return avx2::kKernels; }

}  // namespace conclave::worker
