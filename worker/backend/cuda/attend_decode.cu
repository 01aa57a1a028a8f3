#include <algorithm>
#include <cmath>

#include "worker/backend/cuda/attend_tiles.cuh"

// Pieces on tensor cores, for bf16 queries with KV of bf16 or e4m3. Bound by the KV's bytes: each
// element is read once for an item, and once from shared memory for its (up to 64) query rows.
//
// One block: one item, one KV head, up to 64 query rows (its rows x the group's heads). Warp w of 4
// computes scores of positions 16w..16w+15 of each tile of 64, for all query rows; they stay in
// registers until the greatest of the piece is known. The weights then go to shared memory as bf16,
// and warp w sums values for columns 16w.., 16w+64.., ... over all positions. K and V tiles come
// through one ring, so that values are under way while scores are computed.
//
// The rule of bits: an element of any product goes through the same steps wherever its row stands,
// and contractions are spelled out (fmaf), so that instances for 16, 32 and 64 query rows agree.
namespace conclave::worker::cuda {
namespace {

constexpr int kWarps = kPieceThreads / 32;

__device__ inline uint32_t PackBf16(float low, float high) {
  return uint32_t{__bfloat16_as_ushort(__float2bfloat16_rn(low))} |
         uint32_t{__bfloat16_as_ushort(__float2bfloat16_rn(high))} << 16;
}
__device__ inline float LowBf16(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ inline float HighBf16(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

struct Notes {
  int32_t blocks[kPiece / kKvBlock];
  int32_t row[kQueryRows], head[kQueryRows];  // By query row.
  float greatest[kWarps][kQueryRows];         // Raw scores.
  float sums[kWarps][kQueryRows];             // Of weights.
};

// The piece for kRows tiles of 16 query rows, the first `query_rows` of which are wanted.
template <int kRows, int kGroups, typename Ring>
__device__ inline void AttendPiece(const PieceArgs& args, const DecodeItem& item, int query_rows,
                                   Ring& ring, Notes& notes, __nv_bfloat16* queries) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % 32, warp = thread / 32;
  const int g = lane / 4, t = lane % 4;  // As in Mma16816.
  const int width = args.head_width;
  // The rows of four 8x8 matrices: below each other first, or beside each other first.
  const int down = lane % 8 + lane / 8 % 2 * 8, right = lane / 16 * 8;

  {
    const int chunks = width / 8;
    for (int i = thread; i < kRows * 16 * chunks; i += kPieceThreads) {
      const int query = i / chunks, e = i % chunks * 8;
      const bool wanted = query < query_rows;
      const __nv_bfloat16* const from =
          static_cast<const __nv_bfloat16*>(args.q) +
          (wanted ? notes.row[query] * args.q_stride + int64_t{notes.head[query]} * width + e : 0);
      CopyAsync16(queries + query * ring.stride() + e, from, wanted);
    }
  }
  ring.Start();

  // Scores: [query tile of 16][tile of 64] x 16 x (2 x 8) positions of this warp.
  float scores[kPieceTiles][kRows][2][4] = {};
#pragma unroll
  for (int tile = 0; tile < kPieceTiles; ++tile) {
    if (tile < ring.first_tile() || tile >= ring.end_tile()) continue;
    const __nv_bfloat16* const keys =
        ring.Next() + (16 * warp + lane % 8 + right) * ring.stride() + lane / 8 % 2 * 8;
#pragma unroll 4
    for (int e = 0; e < width; e += 16) {
      uint32_t k[4];  // Positions 0-7: k[0], k[1]; 8-15: k[2], k[3].
      LoadMatrixX4(k, keys + e);
      const uint32_t low[2] = {k[0], k[1]}, high[2] = {k[2], k[3]};
#pragma unroll
      for (int m = 0; m < kRows; ++m) {
        uint32_t q[4];
        LoadMatrixX4(q, queries + (16 * m + down) * ring.stride() + right + e);
        Mma16816(scores[tile][m][0], q, low);
        Mma16816(scores[tile][m][1], q, high);
      }
    }
  }

  // The greatest of each query row: of the thread's, of the warp's, of all.
#pragma unroll
  for (int m = 0; m < kRows; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float greatest = -INFINITY;
#pragma unroll
      for (int tile = 0; tile < kPieceTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& score = scores[tile][m][i / 2][2 * half + i % 2];
          const int at = tile * kPieceTile + 16 * warp + i / 2 * 8 + 2 * t + i % 2;
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
      const float greatest = fmaxf(fmaxf(notes.greatest[0][query], notes.greatest[1][query]),
                                   fmaxf(notes.greatest[2][query], notes.greatest[3][query])) *
                             args.scale;
      float sum = 0;
#pragma unroll
      for (int tile = 0; tile < kPieceTiles; ++tile) {
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const float* const pair = &scores[tile][m][n][2 * half];
          const uint32_t rounded = PackBf16(__expf(fmaf(pair[0], args.scale, -greatest)),
                                            __expf(fmaf(pair[1], args.scale, -greatest)));
          sum += LowBf16(rounded);
          sum += HighBf16(rounded);
          *reinterpret_cast<uint32_t*>(weights + query * kWeightStride + tile * kPieceTile +
                                       16 * warp + 8 * n + 2 * t) = rounded;
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
    const __nv_bfloat16* const values = ring.Next();
#pragma unroll
    for (int at = 0; at < kPieceTile; at += 16) {
      uint32_t v[kGroups][4];
#pragma unroll
      for (int i = 0; i < kGroups; ++i) {
        const int column = 16 * (warp + kWarps * i);
        if (column < width) {
          LoadMatrixX4Transposed(v[i], values + (at + down) * ring.stride() + column + right);
        }
      }
#pragma unroll
      for (int m = 0; m < kRows; ++m) {
        uint32_t p[4];
        LoadMatrixX4(p, weights + (16 * m + down) * kWeightStride + tile * kPieceTile + at + right);
#pragma unroll
        for (int i = 0; i < kGroups; ++i) {
          if (16 * (warp + kWarps * i) < width) {
            const uint32_t low[2] = {v[i][0], v[i][1]}, high[2] = {v[i][2], v[i][3]};
            Mma16816(sums[m][i][0], p, low);
            Mma16816(sums[m][i][1], p, high);
          }
        }
      }
    }
  }
  GridDependencyLaunch();

#pragma unroll
  for (int m = 0; m < kRows; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = 16 * m + 8 * half + g;
      if (query >= query_rows) continue;
      float* const to =
          args.sums + PartOf(args, notes.row[query], notes.head[query], item.piece) * width;
#pragma unroll
      for (int i = 0; i < kGroups; ++i) {
        const int column = 16 * (warp + kWarps * i);
        if (column >= width) continue;
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          *reinterpret_cast<float2*>(to + column + 8 * n + 2 * t) =
              make_float2(sums[m][i][n][2 * half], sums[m][i][n][2 * half + 1]);
        }
      }
    }
  }
  if (thread < query_rows) {
    float greatest = notes.greatest[0][thread], sum = notes.sums[0][thread];
    for (int w = 1; w < kWarps; ++w) {
      greatest = fmaxf(greatest, notes.greatest[w][thread]);
      sum += notes.sums[w][thread];
    }
    args.stats[PartOf(args, notes.row[thread], notes.head[thread], item.piece)] =
        make_float2(greatest * args.scale, sum);
  }
}

// parts: blocks for the query rows of one item and KV head.
template <bool kE4M3, int kGroups>
__global__ void __launch_bounds__(kPieceThreads, 2) AttendPieces(PieceArgs args, int parts) {
  GridDependencyWait();
  const int index = static_cast<int>(blockIdx.x);
  const int first_query = index % parts * kQueryRows;
  const int kv_head = index / parts % args.kv_heads;
  const DecodeItem item = args.items[index / parts / args.kv_heads];
  const int query_rows = min(item.rows * args.group - first_query, kQueryRows);
  if (query_rows <= 0) return;

  __shared__ Notes notes;
  const int thread = static_cast<int>(threadIdx.x);
  if (thread < kPiece / kKvBlock) {
    // Blocks that nobody sees may not even be in the table.
    const bool seen = thread * kKvBlock < item.to && (thread + 1) * kKvBlock > item.from;
    notes.blocks[thread] = seen ? args.blocks[item.blocks + thread] : 0;
  } else if (thread >= kPieceThreads - kQueryRows) {
    const int i = thread - (kPieceThreads - kQueryRows);
    if (i < query_rows) {
      const int query = first_query + i;
      notes.row[i] = args.item_rows[item.first + query / args.group];
      notes.head[i] = kv_head * args.group + query % args.group;
    }
  }
  __syncthreads();

  constexpr int kStages = RingShape<kE4M3, kGroups>::kStages;
  unsigned char* const shared = DynamicShared<unsigned char>();
  __nv_bfloat16* const queries = reinterpret_cast<__nv_bfloat16*>(
      shared + PieceRoomOf(args.head_width, args.group, kE4M3, kStages).queries);
  TileRing<kE4M3, kGroups> ring(args, item, kv_head, notes.blocks, shared);
  if (query_rows <= 16) {
    AttendPiece<1, kGroups>(args, item, query_rows, ring, notes, queries);
  } else if (query_rows <= 32) {
    AttendPiece<2, kGroups>(args, item, query_rows, ring, notes, queries);
  } else {
    AttendPiece<4, kGroups>(args, item, query_rows, ring, notes, queries);
  }
}

template <bool kE4M3, int kGroups>
void Start(const PieceArgs& args, int num_items, cudaStream_t stream) {
  const int parts = (kItemRows * args.group + kQueryRows - 1) / kQueryRows;
  const PieceRoom room =
      PieceRoomOf(args.head_width, args.group, kE4M3, RingShape<kE4M3, kGroups>::kStages);
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(num_items * args.kv_heads * parts)),
                          .block = dim3(kPieceThreads),
                          .shared_bytes = room.bytes,
                          .stream = stream,
                          .early = true};
  Launch(AttendPieces<kE4M3, kGroups>, shape, args, parts);
}

template <bool kE4M3>
void StartOf(const PieceArgs& args, int num_items, cudaStream_t stream) {
  if (args.head_width <= 64) {
    Start<kE4M3, 1>(args, num_items, stream);
  } else if (args.head_width <= 128) {
    Start<kE4M3, 2>(args, num_items, stream);
  } else {
    Start<kE4M3, 4>(args, num_items, stream);
  }
}

bool FitsTensorCores(const AttendArgs& args) {
  return args.q.dtype == DType::kBF16 && args.kv.stored != Stored::kF32 &&
         args.kv.head_width % 16 == 0 && args.kv.head_width <= 256 && args.q.stride % 8 == 0;
}

// Floats before the stats: those of the sums, rounded up so that the stats are aligned.
int64_t SumFloats(int64_t parts, int head_width) { return (parts * head_width + 3) / 4 * 4; }

}  // namespace

int64_t PartFloats(int rows, int heads, int head_width, int max_pieces) {
  const int64_t parts = int64_t{rows} * heads * max_pieces;
  return SumFloats(parts, head_width) + 2 * parts;
}

void AttendDecode(const AttendArgs& args, cudaStream_t stream) {
  const int rows = args.batch.rows - args.batch.prompt_rows;
  if (rows == 0) return;
  const int heads = static_cast<int>(args.q.cols) / args.kv.head_width;
  const int64_t parts = int64_t{rows} * heads * args.max_pieces;
  float2* const stats =
      reinterpret_cast<float2*>(args.parts + SumFloats(parts, args.kv.head_width));
  const PieceArgs pieces{
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
      .stats = stats,
  };
  if (!FitsTensorCores(args)) {
    LaunchPlainPieces(pieces, args.num_items, args.q.dtype, args.kv.stored, stream);
  } else if (args.kv.stored == Stored::kE4M3) {
    StartOf<true>(pieces, args.num_items, stream);
  } else {
    StartOf<false>(pieces, args.num_items, stream);
  }
  LaunchMerge(args, args.parts, stats, stream);
}

}  // namespace conclave::worker::cuda
