#include <cmath>

#include "worker/backend/cuda/attend_pieces.h"

namespace conclave::worker::cuda {
namespace {

constexpr int kLanes = 32;
constexpr int kWarps = 4;

struct MergeArgs {
  const int32_t* positions = nullptr;  // Of the first produced row.
  const float* sums = nullptr;
  const float2* stats = nullptr;
  void* out = nullptr;  // Of the first produced row.
  int64_t out_stride = 0;
  int heads = 0, head_width = 0, max_pieces = 0, window = 0;
};

__device__ inline void Store(float x, float* to) { *to = x; }
__device__ inline void Store(float x, __nv_bfloat16* to) { *to = __float2bfloat16_rn(x); }

// One block: one row and one head. Warp w takes pieces w, w + 4, ... in order; then the warps in
// order: an order that a piece's number alone fixes. Bound by latency: the loads of several pieces
// are under way at once.
template <typename Out, int kVector>
__global__ void __launch_bounds__(kLanes* kWarps) MergePieces(MergeArgs args) {
  GridDependencyWait();
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  const int row = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const int position = args.positions[row];
  const int start = args.window > 0 ? max(0, position - args.window + 1) : 0;
  const int first = start / kPiece, last = position / kPiece;
  const int64_t part = (int64_t{row} * args.heads + head) * args.max_pieces;
  const float2* const stats = args.stats + part;
  const float* const sums = args.sums + part * args.head_width;
  Out* const out =
      static_cast<Out*>(args.out) + row * args.out_stride + int64_t{head} * args.head_width;

  float greatest = -INFINITY;
  for (int piece = first + lane; piece <= last; piece += kLanes) {
    greatest = fmaxf(greatest, stats[piece].x);
  }
  for (int other = kLanes / 2; other > 0; other /= 2) {
    greatest = fmaxf(greatest, __shfl_xor_sync(0xffffffffu, greatest, other));
  }

  __shared__ float warp_sums[kWarps][kLanes * kVector];
  __shared__ float warp_totals[kWarps];
  const int mine = first + (warp - first % kWarps + kWarps) % kWarps;  // The warp's first piece.
  for (int base = 0; base < args.head_width; base += kLanes * kVector) {
    const int column = base + lane * kVector;
    const bool inside = column < args.head_width;
    float sum[kVector] = {}, total = 0;
#pragma unroll 4
    for (int piece = mine; piece <= last; piece += kWarps) {
      const float2 stat = stats[piece];
      const float weight = expf(stat.x - greatest);
      total = fmaf(weight, stat.y, total);
      const float* const from = sums + int64_t{piece} * args.head_width + (inside ? column : 0);
      if constexpr (kVector == 4) {
        const float4 v = *reinterpret_cast<const float4*>(from);
        sum[0] = fmaf(weight, v.x, sum[0]);
        sum[1] = fmaf(weight, v.y, sum[1]);
        sum[2] = fmaf(weight, v.z, sum[2]);
        sum[3] = fmaf(weight, v.w, sum[3]);
      } else {
        sum[0] = fmaf(weight, *from, sum[0]);
      }
    }
    for (int i = 0; i < kVector; ++i) warp_sums[warp][lane * kVector + i] = sum[i];
    if (lane == 0) warp_totals[warp] = total;
    __syncthreads();
    const int i = static_cast<int>(threadIdx.x);  // Of these columns, the thread's.
    if (i < kLanes * kVector && base + i < args.head_width) {
      float all = warp_sums[0][i], weights = warp_totals[0];
      for (int w = 1; w < kWarps; ++w) {
        all += warp_sums[w][i];
        weights += warp_totals[w];
      }
      Store(all / weights, out + base + i);
    }
    __syncthreads();
  }
}

template <typename Out>
void Start(const MergeArgs& args, int rows, cudaStream_t stream) {
  const LaunchShape shape{
      .grid = dim3(static_cast<unsigned>(rows), static_cast<unsigned>(args.heads)),
      .block = dim3(kLanes * kWarps),
      .stream = stream,
      .early = true};
  if (args.head_width % 4 == 0) {
    Launch(MergePieces<Out, 4>, shape, args);
  } else {
    Launch(MergePieces<Out, 1>, shape, args);
  }
}

}  // namespace

void LaunchMerge(const AttendArgs& args, const float* sums, const float2* stats,
                 cudaStream_t stream) {
  const MergeArgs merge{
      .positions = args.batch.positions + args.batch.prompt_rows,
      .sums = sums,
      .stats = stats,
      .out = args.out.at(args.batch.prompt_rows, 0),
      .out_stride = args.out.stride,
      .heads = static_cast<int>(args.q.cols) / args.kv.head_width,
      .head_width = args.kv.head_width,
      .max_pieces = args.max_pieces,
      .window = args.window,
  };
  const int rows = args.batch.rows - args.batch.prompt_rows;
  if (args.out.dtype == DType::kBF16) {
    Start<__nv_bfloat16>(merge, rows, stream);
  } else {
    Start<float>(merge, rows, stream);
  }
}

}  // namespace conclave::worker::cuda
