#include "worker/backend/cuda/linear_rows.h"
#include "worker/backend/cuda/row_launch.cuh"

namespace conclave::worker::cuda {

void LinearRows(const LinearRowsArgs& args, cudaStream_t stream) {
  LaunchProduct<false>(args.x, args.w, args.out, args.bias, args.add, stream);
}

}  // namespace conclave::worker::cuda
