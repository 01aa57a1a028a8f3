#define CONCLAVE_ISA avx512
#define CONCLAVE_ISA_NAME "avx512"
#include "worker/backend/cpu/kernels.inc"

namespace conclave::worker {

const Kernels& Avx512Kernels() { return avx512::kKernels; }

}  // namespace conclave::worker
