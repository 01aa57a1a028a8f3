#include "worker/backend/cuda/linear_rows.h"
#include "worker/backend/cuda/row_launch.cuh"

namespace conclave::worker::cuda {

namespace {

bool HasRoomToNormIn(const Matrix& w) {
  return w.stored == Stored::kBF16   ? HasRoomToNorm<Bf16Chunk>(w)
         : w.stored == Stored::kE4M3 ? HasRoomToNorm<E4m3Chunk>(w)
                                     : HasRoomToNorm<Int4Chunk>(w);
}

}  // namespace

bool CanNorm(const Tensor& x, const RowNorm& norm, const Matrix& w) {
  constexpr int64_t kLeast = kWarp * kOctet;  // A norm that narrow has another order of summation.
  constexpr int64_t kMost = 16384;            // So much shared memory is left beside the ring.
  return x.rows == 1 && x.dtype == DType::kF32 && x.cols == w.in && w.stored != Stored::kF32 &&
         w.in > kLeast && w.in <= kMost && WholeOctets(x.data, sizeof(float), x.stride, w.in) &&
         WholeOctets(norm.gain, sizeof(float), w.in, w.in) && HasRoomToNormIn(w);
}

void LinearRows(const LinearRowsArgs& args, cudaStream_t stream) {
  LaunchProduct<false>(args.x, args.w, args.out, args.bias, args.add, stream);
}

void NormLinearRow(const LinearRowsArgs& args, const RowNorm& norm, cudaStream_t stream) {
  CHECK(!args.add);
  LaunchNormedProduct<false>(args.x, norm, args.w, args.out, args.bias, stream);
}

}  // namespace conclave::worker::cuda
