#include <cmath>

#include "worker/backend/cuda/attend_pieces.h"

namespace conclave::worker::cuda {
namespace {

constexpr int kLanes = 32;
constexpr int kSlots = 16;  // Piece p belongs to slot p % kSlots.
constexpr int kFewWarps = 4;

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

template <int kVector>
struct Values {
  float v[kVector];
};
template <int kVector>
__device__ inline Values<kVector> LoadValues(const float* from) {
  if constexpr (kVector == 4) {
    const float4 four = *reinterpret_cast<const float4*>(from);
    return {{four.x, four.y, four.z, four.w}};
  } else {
    return {{*from}};
  }
}

// One block: one row and one head. A slot's pieces are added in order, then the slots in order: an
// order that a piece's number alone fixes, whatever kWarps is. Bound by latency: the loads of
// several pieces are under way at once, the first before the greatest score is known.
template <typename Out, int kVector, int kWarps>
__global__ void __launch_bounds__(kLanes* kWarps) MergePieces(MergeArgs args) {
  constexpr int kAtOnce = kWarps < kSlots ? 4 : 8;  // Loads under way for one slot.
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int warp = static_cast<int>(threadIdx.x) / kLanes;
  const int row = static_cast<int>(blockIdx.x), head = static_cast<int>(blockIdx.y);
  const int position = args.positions[row];  // The step's upload brought it.
  GridDependencyWait();
  GridDependencyLaunch();
  const int start = args.window > 0 ? max(0, position - args.window + 1) : 0;
  const int first = start / kPiece, last = position / kPiece;
  const int64_t part = (int64_t{row} * args.heads + head) * args.max_pieces;
  const float2* const stats = args.stats + part;
  const float* const sums = args.sums + part * args.head_width;
  Out* const out =
      static_cast<Out*>(args.out) + row * args.out_stride + int64_t{head} * args.head_width;

  float2 stat[kAtOnce];
  Values<kVector> values[kAtOnce];
  const auto load = [&](int piece, int column) {
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (piece + i * kSlots > last) continue;
      stat[i] = stats[piece + i * kSlots];
      values[i] =
          LoadValues<kVector>(sums + int64_t{piece + i * kSlots} * args.head_width + column);
    }
  };
  const auto first_of = [&](int slot) { return first + (slot - first % kSlots + kSlots) % kSlots; };
  const int lane_column = lane * kVector < args.head_width ? lane * kVector : 0;
  load(first_of(warp), lane_column);

  float greatest = -INFINITY;
  for (int piece = first + lane; piece <= last; piece += kLanes) {
    greatest = fmaxf(greatest, stats[piece].x);
  }
  for (int other = kLanes / 2; other > 0; other /= 2) {
    greatest = fmaxf(greatest, __shfl_xor_sync(0xffffffffu, greatest, other));
  }

  __shared__ float slot_sums[kSlots][kLanes * kVector];
  __shared__ float slot_totals[kSlots];
  for (int base = 0; base < args.head_width; base += kLanes * kVector) {
    const int column = base + lane * kVector < args.head_width ? base + lane * kVector : 0;
    for (int slot = warp; slot < kSlots; slot += kWarps) {
      float sum[kVector] = {}, total = 0;
      for (int piece = first_of(slot); piece <= last; piece += kAtOnce * kSlots) {
        if (base > 0 || slot != warp || piece != first_of(slot)) load(piece, column);
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
          if (piece + i * kSlots > last) continue;
          const float weight = expf(stat[i].x - greatest);
          total = fmaf(weight, stat[i].y, total);
#pragma unroll
          for (int v = 0; v < kVector; ++v) sum[v] = fmaf(weight, values[i].v[v], sum[v]);
        }
      }
#pragma unroll
      for (int v = 0; v < kVector; ++v) slot_sums[slot][lane * kVector + v] = sum[v];
      if (lane == 0) slot_totals[slot] = total;
    }
    __syncthreads();
    const int i = static_cast<int>(threadIdx.x);  // Of these columns, the thread's.
    if (i < kLanes * kVector && base + i < args.head_width) {
      float all = slot_sums[0][i], weights = slot_totals[0];
#pragma unroll
      for (int slot = 1; slot < kSlots; ++slot) {
        all += slot_sums[slot][i];
        weights += slot_totals[slot];
      }
      Store(MergedOf(all, weights), out + base + i);
    }
    __syncthreads();
  }
}

template <typename Out, int kVector, int kWarps>
void StartOf(const MergeArgs& args, int rows, cudaStream_t stream) {
  const LaunchShape shape{
      .grid = dim3(static_cast<unsigned>(rows), static_cast<unsigned>(args.heads)),
      .block = dim3(kLanes * kWarps),
      .stream = stream,
      .early = true};
  Launch(MergePieces<Out, kVector, kWarps>, shape, args);
}

template <typename Out>
void Start(const MergeArgs& args, int rows, cudaStream_t stream) {
  // Blocks of many warps pay where a row has many pieces, and all of them run at once. Others start
  // beside the last pieces.
  const bool few = args.max_pieces <= 64 || rows * args.heads > 128;
  if (args.head_width % 4 != 0) {
    StartOf<Out, 1, kFewWarps>(args, rows, stream);
  } else if (few) {
    StartOf<Out, 4, kFewWarps>(args, rows, stream);
  } else {
    StartOf<Out, 4, kSlots>(args, rows, stream);
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
