#include "worker/backend/cuda/linear_rows.h"
#include "worker/backend/cuda/row_launch.cuh"

namespace conclave::worker::cuda {

void GateUpRows(const GateUpRowsArgs& args, cudaStream_t stream) {
  LaunchProduct<true>(args.x, args.w, args.out, args.bias, false, stream);
}

void NormGateUpRow(const GateUpRowsArgs& args, const RowNorm& norm, cudaStream_t stream) {
  LaunchNormedProduct<true>(args.x, norm, args.w, args.out, args.bias, stream);
}

}  // namespace conclave::worker::cuda
