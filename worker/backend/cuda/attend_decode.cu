#include <algorithm>
#include <cmath>

#include "worker/backend/cuda/attend_products.cuh"
#include "worker/backend/cuda/attend_tiles.cuh"
#include "worker/backend/cuda/shared_memory.h"

// Pieces on tensor cores, for bf16 queries with KV of bf16 or e4m3. Bound by the KV's bytes: each
// element is read once for an item, and once from shared memory for its (up to 64) query rows.
//
// One block: one item, one KV head, up to 64 query rows (its rows x the group's heads). Warp w
// computes scores of positions 16w..16w+15 of each tile, for all query rows; they stay in
// registers until the greatest of the piece is known. The weights then go to shared memory as bf16,
// and warp w sums values for columns 16w.., 16 (w + warps).., ... over all positions. K and V tiles
// come through one ring, so that values are under way while scores are computed. Few items are
// bound by latency: what the step's upload brought is read, and the piece sent for, before earlier
// kernels are done.
//
// The rule of bits: an element of any product goes through the same steps wherever its row stands,
// and contractions are spelled out (fmaf), so that instances for 16, 32 and 64 query rows agree.
namespace conclave::worker::cuda {
namespace {

// Blocks that run at once on a large device. These send for their keys early; of fewer, values too:
// not more than the L2 cache holds.
constexpr unsigned kSentFor = 264;

__device__ inline uint32_t PackBf16(float low, float high) {
  return uint32_t{__bfloat16_as_ushort(__float2bfloat16_rn(low))} |
         uint32_t{__bfloat16_as_ushort(__float2bfloat16_rn(high))} << 16;
}
__device__ inline float LowBf16(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ inline float HighBf16(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

template <int kWarps>
struct Notes {
  int32_t blocks[kPiece / kKvBlock];
  int32_t row[kQueryRows], head[kQueryRows];  // By query row.
  float greatest[kWarps][kQueryRows];         // Raw scores.
  float sums[kWarps][kQueryRows];             // Of weights.
};

template <int kWarps>
__device__ inline float TotalOf(const Notes<kWarps>& notes, int query) {
  float sum = notes.sums[0][query];
  for (int w = 1; w < kWarps; ++w) sum += notes.sums[w][query];
  return sum;
}

// All wanted queries, and zeros for the others, to shared memory.
template <bool kE4M3, int kRows, typename Notes>
__device__ inline void CopyQueries(const PieceArgs& args, const Notes& notes, int query_rows,
                                   __nv_bfloat16* queries) {
  constexpr int kChunk = kE4M3 ? 16 : 8;
  const int width = args.head_width, chunks = width / kChunk;
  for (int i = static_cast<int>(threadIdx.x); i < kRows * 16 * chunks;
       i += PieceShape<kE4M3>::kThreads) {
    const int query = i / chunks, e = i % chunks * kChunk;
    const bool wanted = query < query_rows;
    const __nv_bfloat16* const from =
        static_cast<const __nv_bfloat16*>(args.q) +
        (wanted ? notes.row[query] * args.q_stride + int64_t{notes.head[query]} * width + e : 0);
    __nv_bfloat16* const to = queries + query * (width + 8) + e;
    if constexpr (kE4M3) {
      uint4 a = make_uint4(0, 0, 0, 0), b = a;
      if (wanted) {
        a = reinterpret_cast<const uint4*>(from)[0];
        b = reinterpret_cast<const uint4*>(from)[1];
      }
      StoreParted(to, a, b);
    } else {
      CopyAsync16(to, from, wanted);
    }
  }
}

// The piece for kRows tiles of 16 query rows, the first `query_rows` of which are wanted.
template <bool kE4M3, int kRows, int kGroups, typename Ring, typename Notes>
__device__ inline void AttendPiece(const PieceArgs& args, const DecodeItem& item, int query_rows,
                                   Ring& ring, Notes& notes, __nv_bfloat16* queries) {
  constexpr int kWarps = PieceShape<kE4M3>::kWarps, kTile = PieceShape<kE4M3>::kTile;
  constexpr int kTiles = PieceShape<kE4M3>::kTiles;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int g = lane / 4, t = lane % 4;  // As in Mma16816.
  const int width = args.head_width;

  if (kE4M3) ring.Start();
  CopyQueries<kE4M3, kRows>(args, notes, query_rows, queries);
  if (!kE4M3) ring.Start();  // The queries' copies arrive with the first tile.

  // Scores: [tile][query tile of 16] x 16 x (2 x 8) positions of this warp.
  float scores[kTiles][kRows][2][4] = {};
#pragma unroll
  for (int tile = 0; tile < kTiles; ++tile) {
    if (tile < ring.first_tile() || tile >= ring.end_tile()) continue;
    const unsigned char* const keys = ring.Next() + 16 * warp * ring.row_bytes();
    MultiplyKeys<kE4M3, kRows>(keys, ring.row_bytes(), width, queries, scores[tile]);
  }

  // The greatest of each query row: of the thread's, of the warp's, of all.
#pragma unroll
  for (int m = 0; m < kRows; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float greatest = -INFINITY;
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& score = scores[tile][m][i / 2][2 * half + i % 2];
          const int at = tile * kTile + 16 * warp + i / 2 * 8 + 2 * t + i % 2;
          if (at < item.from || at >= item.to) score = -INFINITY;
          greatest = fmaxf(greatest, score);
        }
      }
      greatest = fmaxf(greatest, __shfl_xor_sync(0xffffffffu, greatest, 1));
      greatest = fmaxf(greatest, __shfl_xor_sync(0xffffffffu, greatest, 2));
      if (t == 0) notes.greatest[warp][16 * m + 8 * half + g] = greatest;
    }
  }
  __syncthreads();  // And nobody reads queries any more.

  // Weights, rounded as they will be used, and their sums.
  __nv_bfloat16* const weights = queries;
#pragma unroll
  for (int m = 0; m < kRows; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = 16 * m + 8 * half + g;
      float greatest = notes.greatest[0][query];
#pragma unroll
      for (int w = 1; w < kWarps; ++w) greatest = fmaxf(greatest, notes.greatest[w][query]);
      greatest *= args.scale;
      float sum = 0;
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const float* const pair = &scores[tile][m][n][2 * half];
          const uint32_t rounded = PackBf16(__expf(fmaf(pair[0], args.scale, -greatest)),
                                            __expf(fmaf(pair[1], args.scale, -greatest)));
          sum += LowBf16(rounded);
          sum += HighBf16(rounded);
          *reinterpret_cast<uint32_t*>(weights + query * kWeightStride + tile * kTile + 16 * warp +
                                       8 * n + 2 * t) = rounded;
        }
      }
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      if (t == 0) notes.sums[warp][query] = sum;
    }
  }

  // Values. The first Next() waits for everyone's weights, too.
  float sums[kRows][kGroups][2][4] = {};
  for (int tile = ring.first_tile(); tile < ring.end_tile(); ++tile) {
    const unsigned char* const values = ring.Next();
#pragma unroll
    for (int at = 0; at < kTile; at += 32) {
      MultiplyValues<kE4M3>(values + at * ring.row_bytes(), ring.row_bytes(), width, warp, kWarps,
                            weights + tile * kTile + at, kWeightStride, sums);
    }
  }

#pragma unroll
  for (int m = 0; m < kRows; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = 16 * m + 8 * half + g;
      if (query >= query_rows) continue;
      const int row = notes.row[query], head = notes.head[query];
      const float total = TotalOf(notes, query);
      float* const part = args.sums + PartOf(args, row, head, item.piece) * width;
      __nv_bfloat16* const out =
          args.out == nullptr ? nullptr : args.out + row * args.out_stride + int64_t{head} * width;
#pragma unroll
      for (int i = 0; i < kGroups; ++i) {
        const int column = 16 * (warp + kWarps * i);
        if (column >= width) continue;
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const int at = column + (kE4M3 ? 4 * t + 2 * n : 8 * n + 2 * t);
          const float a = kE4M3 ? sums[m][i][0][2 * half + n] : sums[m][i][n][2 * half];
          const float b = kE4M3 ? sums[m][i][1][2 * half + n] : sums[m][i][n][2 * half + 1];
          if (args.out == nullptr) {
            *reinterpret_cast<float2*>(part + at) = make_float2(a, b);
          } else {
            *reinterpret_cast<uint32_t*>(out + at) =
                PackBf16(MergedOf(a, total), MergedOf(b, total));
          }
        }
      }
    }
  }
  if (args.out == nullptr && thread < query_rows) {
    float greatest = notes.greatest[0][thread];
    for (int w = 1; w < kWarps; ++w) greatest = fmaxf(greatest, notes.greatest[w][thread]);
    args.stats[PartOf(args, notes.row[thread], notes.head[thread], item.piece)] =
        make_float2(greatest * args.scale, TotalOf(notes, thread));
  }
}

// parts: blocks for the query rows of one item and KV head.
template <bool kE4M3, int kGroups, int kStages>
__global__ void __launch_bounds__(PieceShape<kE4M3>::kThreads, 2)
    AttendPieces(PieceArgs args, int parts) {
  const int index = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  const int first_query = index % parts * kQueryRows;
  const int kv_head = index / parts % args.kv_heads;
  const DecodeItem item = args.items[index / parts / args.kv_heads];
  const int query_rows = min(item.rows * args.group - first_query, kQueryRows);
  __shared__ Notes<PieceShape<kE4M3>::kWarps> notes;
  if (query_rows > 0) {
    // Blocks that nobody sees may not even be in the table.
    const int place = thread / 8;  // 8 threads to a block of KV.
    const bool seen = place < kPiece / kKvBlock && place * kKvBlock < item.to &&
                      (place + 1) * kKvBlock > item.from;
    const int32_t block = seen ? args.blocks[item.blocks + place] : 0;
    if (thread % 8 == 0 && place < kPiece / kKvBlock) notes.blocks[place] = block;
    if (seen && blockIdx.x < kSentFor) PrefetchBlock<kE4M3>(args, item, kv_head, args.keys, block);
    if (seen && gridDim.x <= kSentFor / 2) {
      PrefetchBlock<kE4M3>(args, item, kv_head, args.values, block);
    }
    if (thread < query_rows) {
      const int query = first_query + thread;
      notes.row[thread] = args.item_rows[item.first + query / args.group];
      notes.head[thread] = kv_head * args.group + query % args.group;
    }
  }
  GridDependencyWait();
  GridDependencyLaunch();
  if (query_rows <= 0) return;
  __syncthreads();

  unsigned char* const shared = DynamicShared<unsigned char>();
  __nv_bfloat16* const queries = reinterpret_cast<__nv_bfloat16*>(
      shared + PieceRoomOf(args.head_width, args.group, kE4M3, kStages).queries);
  TileRing<kE4M3, kGroups, kStages> ring(args, item, kv_head, notes.blocks, shared);
  if (query_rows <= 16) {
    AttendPiece<kE4M3, 1, kGroups>(args, item, query_rows, ring, notes, queries);
  } else if (query_rows <= 32) {
    AttendPiece<kE4M3, 2, kGroups>(args, item, query_rows, ring, notes, queries);
  } else {
    AttendPiece<kE4M3, 4, kGroups>(args, item, query_rows, ring, notes, queries);
  }
}

using Starter = void (*)(const PieceArgs& args, int num_items, cudaStream_t stream);

template <bool kE4M3, int kGroups, int kStages>
void Start(const PieceArgs& args, int num_items, cudaStream_t stream) {
  const int parts = (kItemRows * args.group + kQueryRows - 1) / kQueryRows;
  const LaunchShape shape{
      .grid = dim3(static_cast<unsigned>(num_items * args.kv_heads * parts)),
      .block = dim3(PieceShape<kE4M3>::kThreads),
      .shared_bytes = PieceRoomOf(args.head_width, args.group, kE4M3, kStages).bytes,
      .stream = stream,
      .early = true};
  Launch(AttendPieces<kE4M3, kGroups, kStages>, shape, args, parts);
}

// Null: no block has room for it.
template <bool kE4M3, int kGroups>
Starter StarterFor(const PieceArgs& args) {
  constexpr int kMost = RingStages(kE4M3, kGroups, false),
                kLittle = RingStages(kE4M3, kGroups, true);
  // Fixed arrays come first, and dynamic memory at a multiple of 1024 behind them.
  constexpr size_t kFixed = (sizeof(Notes<PieceShape<kE4M3>::kWarps>) + 1023) / 1024 * 1024;
  const auto fits = [&](int stages) {
    const size_t bytes = PieceRoomOf(args.head_width, args.group, kE4M3, stages).bytes;
    return bytes + kFixed <= MostShared();
  };
  if (fits(kMost)) return Start<kE4M3, kGroups, kMost>;
  return fits(kLittle) ? Start<kE4M3, kGroups, kLittle> : nullptr;
}

Starter StarterOf(const PieceArgs& args, Stored stored) {
  const int width = args.head_width;
  if (stored == Stored::kE4M3) {
    return width <= 128 ? StarterFor<true, 1>(args) : StarterFor<true, 2>(args);
  }
  return width <= 64    ? StarterFor<false, 1>(args)
         : width <= 128 ? StarterFor<false, 2>(args)
                        : StarterFor<false, 4>(args);
}

bool FitsTensorCores(const AttendArgs& args) {
  return args.q.dtype == DType::kBF16 && args.kv.stored != Stored::kF32 &&
         args.kv.head_width % 16 == 0 && args.kv.head_width <= 256 && args.q.stride % 8 == 0 &&
         args.out.stride % 2 == 0;
}

// Floats before the stats: those of the sums, rounded up so that the stats are aligned.
int64_t SumFloats(int64_t parts, int head_width) { return (parts * head_width + 3) / 4 * 4; }

}  // namespace

int64_t PartFloats(int rows, int heads, int head_width, int max_pieces) {
  const int64_t parts = int64_t{rows} * heads * max_pieces;
  return SumFloats(parts, head_width) + 2 * parts;
}

PieceArgs PiecesOf(const AttendArgs& args) {
  const int rows = args.batch.rows - args.batch.prompt_rows;
  const int heads = static_cast<int>(args.q.cols) / args.kv.head_width;
  const int64_t parts = int64_t{rows} * heads * args.max_pieces;
  return {
      .items = args.items,
      .item_rows = args.item_rows,
      .blocks = args.batch.blocks,
      .q = args.q.at(args.batch.prompt_rows, 0),
      .q_stride = args.q.stride,
      .keys = args.kv.keys,
      .values = args.kv.values,
      .block_stride = args.kv.block_stride(),
      .kv_heads = args.kv.kv_heads,
      .group = heads / args.kv.kv_heads,
      .head_width = args.kv.head_width,
      .max_pieces = args.max_pieces,
      .scale = args.scale,
      .sums = args.parts,
      .stats = reinterpret_cast<float2*>(args.parts + SumFloats(parts, args.kv.head_width)),
  };
}

void AttendDecode(const AttendArgs& args, cudaStream_t stream) {
  if (args.batch.rows == args.batch.prompt_rows) return;
  PieceArgs pieces = PiecesOf(args);
  const Starter start = FitsTensorCores(args) ? StarterOf(pieces, args.kv.stored) : nullptr;
  if (start != nullptr && args.max_pieces == 1) {
    pieces.out = static_cast<__nv_bfloat16*>(args.out.at(args.batch.prompt_rows, 0));
    pieces.out_stride = args.out.stride;
  }
  if (start == nullptr) {
    LaunchPlainPieces(pieces, args.num_items, args.q.dtype, args.kv.stored, stream);
  } else {
    start(pieces, args.num_items, stream);
  }
  if (pieces.out == nullptr) LaunchMerge(args, pieces.sums, pieces.stats, stream);
}

}  // namespace conclave::worker::cuda
