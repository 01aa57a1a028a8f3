#include <cmath>

#include "worker/backend/cuda/attend.h"
#include "worker/backend/cuda/attend_prefill_plain.h"
#include "worker/backend/cuda/attend_prefill_tiles.cuh"
#include "worker/backend/cuda/shared_memory.h"

namespace conclave::worker::cuda {
namespace {

using prefill::Loader;
using prefill::PrefillArgs;
using prefill::Shape;
using prefill::Shared;

constexpr unsigned kAllLanes = 0xffffffff;
constexpr float kLog2E = 1.4426950408889634F;

// What a lane holds of its warp's rows, sums of weight * value: of row tile m the rows g = lane / 4
// (i = 0, 1) and g + 8 (i = 2, 3), and there the columns 8j + 2t + i % 2 with t = lane % 4.
template <typename S>
using Sums = float[S::kRowTiles][S::kWidth / 8][4];

// scores = q k^T of the warp's rows (`q`: the first) and a key tile.
template <typename S>
__device__ inline void Score(const __nv_bfloat16* q, const __nv_bfloat16* keys, int lane,
                             float (&scores)[S::kRowTiles][S::kKeys / 8][4]) {
#pragma unroll
  for (int m = 0; m < S::kRowTiles; ++m) {
#pragma unroll
    for (int j = 0; j < S::kKeys / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[m][j][i] = 0;
    }
  }
  // Matrices of q: rows 0-7, 8-15 at k 0-7, then at k 8-15. Of keys: keys 0-7 at k 0-7, 8-15, then
  // keys 8-15.
  const __nv_bfloat16* q_at = q + lane % 16 * S::kPitch + lane / 16 * 8;
  const __nv_bfloat16* k_at = keys + (lane % 8 + lane / 16 * 8) * S::kPitch + lane / 8 % 2 * 8;
#pragma unroll
  for (int k = 0; k < S::kWidth; k += 16) {
    uint32_t a[S::kRowTiles][4];
#pragma unroll
    for (int m = 0; m < S::kRowTiles; ++m) LoadMatrixX4(a[m], q_at + m * 16 * S::kPitch + k);
#pragma unroll
    for (int j = 0; j < S::kKeys / 8; j += 2) {
      uint32_t b[4];
      LoadMatrixX4(b, k_at + j * 8 * S::kPitch + k);
#pragma unroll
      for (int m = 0; m < S::kRowTiles; ++m) {
        Mma16816(scores[m][j], a[m], {b[0], b[1]});
        Mma16816(scores[m][j + 1], a[m], {b[2], b[3]});
      }
    }
  }
}

// Scores of positions that a row doesn't see become minus infinity. `ahead`: how far the warp's
// first row is past the tile's first key.
template <typename S>
__device__ inline void Mask(int ahead, int window, int lane,
                            float (&scores)[S::kRowTiles][S::kKeys / 8][4]) {
  // Of score [m][j][i] the key is 8j + i % 2 + 2t, the row 16m + i / 2 * 8 + g ahead.
  const int newest = ahead + lane / 4 - lane % 4 * 2;
#pragma unroll
  for (int m = 0; m < S::kRowTiles; ++m) {
#pragma unroll
    for (int j = 0; j < S::kKeys / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int key = j * 8 + i % 2 - m * 16 - i / 2 * 8;  // Relative to the row.
        if (key > newest) scores[m][j][i] = -INFINITY;
        if (window > 0 && key <= newest - window) scores[m][j][i] = -INFINITY;
      }
    }
  }
}

// Turns one row tile's scores into weights relative to the new greatest score, as mma's operand a;
// what was summed before is to be multiplied by `factor`. `scale` brings scores to units of log2.
template <int kColumns>
__device__ inline void Weigh(const float (&scores)[kColumns][4], float scale, float (&max)[2],
                             float (&sum)[2], float (&factor)[2],
                             uint32_t (&weights)[kColumns / 2][4]) {
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float greatest = -INFINITY;
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      greatest = fmaxf(greatest, fmaxf(scores[j][2 * r], scores[j][2 * r + 1]));
    }
    greatest = fmaxf(greatest, __shfl_xor_sync(kAllLanes, greatest, 1));
    greatest = fmaxf(greatest, __shfl_xor_sync(kAllLanes, greatest, 2));
    const float new_max = fmaxf(max[r], greatest * scale);
    // A row that has seen nothing yet: weights are 2^-inf, not 2^(inf - inf).
    const float reference = new_max == -INFINITY ? 0 : new_max;
    factor[r] = Exp2(max[r] - reference);
    max[r] = new_max;
    float part = 0;
#pragma unroll
    for (int j = 0; j < kColumns; ++j) {
      const float low = Exp2(fmaf(scores[j][2 * r], scale, -reference));
      const float high = Exp2(fmaf(scores[j][2 * r + 1], scale, -reference));
      part += low;
      part += high;
      weights[j / 2][j % 2 * 2 + r] = PackBF16(low, high);
    }
    sum[r] = fmaf(sum[r], factor[r], part);
  }
}

// sums += weights * values.
template <typename S>
__device__ inline void Sum(const uint32_t (&weights)[S::kRowTiles][S::kKeys / 16][4],
                           const __nv_bfloat16* values, int lane, Sums<S>& sums) {
  // Matrices: positions 0-7, 8-15 at e 0-7, then at e 8-15.
  const __nv_bfloat16* v_at = values + lane % 16 * S::kPitch + lane / 16 * 8;
#pragma unroll
  for (int k = 0; k < S::kKeys / 16; ++k) {
#pragma unroll
    for (int j = 0; j < S::kWidth / 8; j += 2) {
      uint32_t b[4];
      LoadMatrixX4Transposed(b, v_at + k * 16 * S::kPitch + j * 8);
#pragma unroll
      for (int m = 0; m < S::kRowTiles; ++m) {
        Mma16816(sums[m][j], weights[m][k], {b[0], b[1]});
        Mma16816(sums[m][j + 1], weights[m][k], {b[2], b[3]});
      }
    }
  }
}

// Everything that one key tile adds to the warp's rows.
template <typename S>
__device__ inline void Absorb(const Shared<S>& shared, int stage, int first_row, int ahead,
                              bool masked, float scale, int window, int lane, Sums<S>& sums) {
  float scores[S::kRowTiles][S::kKeys / 8][4];
  Score<S>(shared.q(first_row), shared.keys(stage), lane, scores);
  if (masked) Mask<S>(ahead, window, lane, scores);
  float factor[S::kRowTiles][2];
  uint32_t weights[S::kRowTiles][S::kKeys / 16][4];
  bool rescale = false;
#pragma unroll
  for (int m = 0; m < S::kRowTiles; ++m) {
    float sum[2] = {*shared.sum(m, 0), *shared.sum(m, 1)};
    float max[2] = {*shared.max(m, 0), *shared.max(m, 1)};
    Weigh(scores[m], scale, max, sum, factor[m], weights[m]);
    *shared.max(m, 0) = max[0];
    *shared.max(m, 1) = max[1];
    *shared.sum(m, 0) = sum[0];
    *shared.sum(m, 1) = sum[1];
    rescale = rescale || factor[m][0] != 1 || factor[m][1] != 1;
  }
  // Most tiles bring no row a new greatest score; a product by 1 would change nothing.
  if (__ballot_sync(kAllLanes, rescale) != 0) {
#pragma unroll
    for (int m = 0; m < S::kRowTiles; ++m) {
#pragma unroll
      for (int j = 0; j < S::kWidth / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[m][j][i] *= factor[m][i / 2];
      }
    }
  }
  Sum<S>(weights, shared.values(stage), lane, sums);
}

// Brings the warp's rows of q; zeros stand for those that the tile doesn't have.
template <typename S>
__device__ inline void StartQuery(const PrefillArgs& args, const PrefillTile& tile,
                                  const Shared<S>& shared, int first_row, int lane) {
  constexpr int kChunks = S::kWidth / 8;
  const __nv_bfloat16* q =
      args.q + tile.first_row * args.q_stride + int64_t{blockIdx.x} * S::kWidth;
  for (int c = lane; c < S::kWarpRows * kChunks; c += 32) {
    const int row = first_row + c / kChunks;
    const bool exists = row < tile.rows;
    CopyAsync16(shared.q(row) + c % kChunks * 8,
                q + (exists ? row * args.q_stride + c % kChunks * 8 : 0), exists);
  }
}

// Divides by the sums and writes the warp's rows, through its own part of q's shared memory.
template <typename S>
__device__ inline void Finish(const PrefillArgs& args, const Shared<S>& shared, int first_row,
                              int lane, const Sums<S>& sums) {
  const PrefillTile tile = args.tiles[blockIdx.y];  // Read anew: it costs no registers till here.
  __syncwarp();
#pragma unroll
  for (int m = 0; m < S::kRowTiles; ++m) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float sum = *shared.sum(m, r);
      sum += __shfl_xor_sync(kAllLanes, sum, 1);
      sum += __shfl_xor_sync(kAllLanes, sum, 2);
      const float inverse = 1 / sum;
      __nv_bfloat16* to = shared.q(first_row + m * 16 + r * 8 + lane / 4) + lane % 4 * 2;
#pragma unroll
      for (int j = 0; j < S::kWidth / 8; ++j) {
        *reinterpret_cast<uint32_t*>(to + j * 8) =
            PackBF16(sums[m][j][2 * r] * inverse, sums[m][j][2 * r + 1] * inverse);
      }
    }
  }
  __syncwarp();
  constexpr int kChunks = S::kWidth / 8;
  __nv_bfloat16* out =
      args.out + tile.first_row * args.out_stride + int64_t{blockIdx.x} * S::kWidth;
  for (int c = lane; c < S::kWarpRows * kChunks; c += 32) {
    const int row = first_row + c / kChunks;
    if (row >= tile.rows) break;
    *reinterpret_cast<uint4*>(out + row * args.out_stride + c % kChunks * 8) =
        *reinterpret_cast<const uint4*>(shared.q(row) + c % kChunks * 8);
  }
}

template <typename S>
__global__ void __launch_bounds__(S::kThreads, S::kCtasPerSm) PrefillKernel(PrefillArgs args) {
  if constexpr (S::kSharedBytes > kMostSharedHere) return;  // Never launched: HasRoom().
  GridDependencyWait();
  const PrefillTile tile = args.tiles[blockIdx.y];
  if (tile.rows == 0) return;
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int warp = static_cast<int>(threadIdx.x / 32);
  const int position = args.positions[tile.first_row];
  const Shared<S> shared{DynamicShared<__nv_bfloat16>()};
  const bool slid = args.window > 0 && position >= args.window;
  Loader<S> loader = {args, 0, 0, 0, 0, 0, 0, 0};
  loader.kv_head = static_cast<int>(blockIdx.x) / args.group;
  loader.table = args.tables[tile.first_row];
  loader.first = slid ? position - args.window + 1 : 0;
  loader.last = position + tile.rows - 1;
  loader.block = static_cast<int>(threadIdx.x / (32 * S::kWarpsPerBlock));
  const unsigned place = threadIdx.x % (32 * S::kWarpsPerBlock);
  loader.row = static_cast<int>(place / S::kRowLanes);
  loader.column = static_cast<int>(place % S::kRowLanes) * S::kChunk;

  const int first_row = warp * S::kWarpRows;  // The warp's, of the tile's.
  StartQuery<S>(args, tile, shared, first_row, lane);

  Sums<S> sums;
#pragma unroll
  for (int m = 0; m < S::kRowTiles; ++m) {
#pragma unroll
    for (int j = 0; j < S::kWidth / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[m][j][i] = 0;
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      *shared.max(m, r) = -INFINITY;
      *shared.sum(m, r) = 0;
    }
  }

  const int first_tile = loader.first / S::kKeys;
  const int end_tile = loader.last / S::kKeys + 1;
  loader.Start(first_tile, loader.Block(first_tile), shared, 0);
  int next_block = loader.Block(first_tile + 1);
  for (int t = first_tile; t < end_tile; ++t) {
    const int stage = (t ^ first_tile) & (S::kStages - 1);
    WaitCopies<0>();
    if constexpr (S::kWidens) {
      if (t != first_tile) __syncthreads();  // All are done with the tile before.
      loader.Widen(shared);
    }
    __syncthreads();  // The tile is there, and all are done with the one before.
    if (t + 1 < end_tile) {
      loader.Start(t + 1, next_block, shared, (S::kStages - 1) ^ stage);
      next_block = loader.Block(t + 2);
    }
    // How far the warp's first row is past the tile's first key. Rows that the tile doesn't have
    // are computed with the warp's others; their results go nowhere.
    const int ahead = position + first_row - t * S::kKeys;
    if (first_row < tile.rows && ahead + S::kWarpRows > 0 &&
        (args.window <= 0 || ahead - args.window < S::kKeys - 1)) {
      const bool masked =
          ahead < S::kKeys - 1 || (args.window > 0 && ahead + S::kWarpRows > args.window);
      Absorb<S>(shared, stage, first_row, ahead, masked, args.scale, args.window, lane, sums);
    }
  }
  Finish<S>(args, shared, first_row, lane, sums);
}

template <typename S>
void LaunchShaped(const AttendArgs& args, cudaStream_t stream) {
  LaunchShape shape;
  // Heads of one tile side by side: those of one group share their keys in L2.
  shape.grid =
      dim3(static_cast<unsigned>(args.q.cols / S::kWidth), static_cast<unsigned>(args.num_tiles));
  shape.block = dim3(S::kThreads);
  shape.shared_bytes = S::kSharedBytes;
  shape.stream = stream;
  shape.early = true;
  PrefillArgs values;
  values.keys = args.kv.keys;
  values.values = args.kv.values;
  values.q = static_cast<const __nv_bfloat16*>(args.q.data);
  values.out = static_cast<__nv_bfloat16*>(args.out.data);
  values.q_stride = args.q.stride;
  values.out_stride = args.out.stride;
  values.tiles = args.tiles;
  values.positions = args.batch.positions;
  values.tables = args.batch.tables;
  values.blocks = args.batch.blocks;
  values.kv_heads = args.kv.kv_heads;
  values.group = static_cast<int>(shape.grid.x) / args.kv.kv_heads;
  values.window = args.window;
  values.scale = args.scale * kLog2E;
  Launch(PrefillKernel<S>, shape, values);
}

template <typename S>
bool HasRoom() {
  return S::kSharedBytes <= MostShared();
}

// The shape for this many rows; false: no block has room for any. Few rows get warps of 16 each:
// twice as many of them share a tile, and a long cached prefix is read in half the time. The bits
// are the same.
template <int kWidth, typename Kv>
bool LaunchForRows(const AttendArgs& args, cudaStream_t stream) {
  using Few = Shape<kWidth, Kv, 1, 4>;
  using Many = Shape<kWidth, Kv, 2, 4>;
  static_assert(2 * Few::kRows == kPrefillTile && Many::kSharedBytes <= kSharedOfWholeTiles);
  if (!HasRoom<Few>()) return false;
  if (args.batch.prompt_rows <= Few::kRows || PrefillTileRows() <= Few::kRows) {
    LaunchShaped<Few>(args, stream);
  } else {
    LaunchShaped<Many>(args, stream);
  }
  return true;
}

// Whether there is a shape for this width, and room for it; then it was launched.
template <typename Kv>
bool LaunchTiled(const AttendArgs& args, cudaStream_t stream) {
  switch (args.kv.head_width) {
    case 64:
      return LaunchForRows<64, Kv>(args, stream);
    case 80:
      return LaunchForRows<80, Kv>(args, stream);
    case 96:
      return LaunchForRows<96, Kv>(args, stream);
    case 128:
      return LaunchForRows<128, Kv>(args, stream);
    case 256:
      if (!HasRoom<Shape<256, Kv, 1, 8>>()) return false;
      LaunchShaped<Shape<256, Kv, 1, 8>>(args, stream);
      return true;
    default:
      return false;
  }
}

// Rows that can be copied by 16 bytes.
bool Aligned(const Tensor& t) {
  return t.stride % 8 == 0 && reinterpret_cast<uintptr_t>(t.data) % 16 == 0;
}

}  // namespace

void AttendPrefill(const AttendArgs& args, cudaStream_t stream) {
  if (args.batch.prompt_rows == 0) return;
  bool done = false;
  if (args.q.dtype == DType::kBF16 && Aligned(args.q) && Aligned(args.out)) {
    if (args.kv.stored == Stored::kBF16) done = LaunchTiled<__nv_bfloat16>(args, stream);
    if (args.kv.stored == Stored::kE4M3) done = LaunchTiled<__nv_fp8_e4m3>(args, stream);
  }
  if (!done) AttendPrefillPlain(args, stream);
}

}  // namespace conclave::worker::cuda
