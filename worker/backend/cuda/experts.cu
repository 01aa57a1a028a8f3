#include <algorithm>
#include <cmath>

#include "worker/backend/cuda/experts.h"
#include "worker/backend/cuda/experts_choose.h"

// Two products on tensor cores for tiles of pairs of one expert, and their sum by row. Bound by the
// weights' bytes for few rows. A CTA makes 16 rows of a weight times its tile's pairs: its 8 warps
// take interleaved chunks of K, each in rising order, and their sums meet in the order of warps, so
// an element's order of summation is fixed by the weight's shape. Lane l of a warp reads 16 bytes
// of weight rows l / 4 and l / 4 + 8 and the same k's of token l / 4: these are its parts of
// several products of 16 k, for which k is permuted alike in both.
namespace conclave::worker::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kPassRows = 1024;  // More rows are done in passes: the scratch has a bound.
constexpr int kFewRows = 16;     // Up to so many, tiles of 8 pairs; else of 32.
constexpr int kWidestTiles = 4;  // In columns of 8 pairs.

template <Stored kStored>
constexpr int kPerLoad = kStored == Stored::kInt4   ? 32
                         : kStored == Stored::kE4M3 ? 16
                                                    : 8;

struct ProductArgs {
  const ExpertMatrices* experts;
  const ExpertTile* tiles;
  const int32_t* order;
  int32_t chosen;
  int64_t in, out;  // Of the product: down [D, F], gate_up [2F, D] has out = F.
  const void* x;    // gate_up: by row; down: by pair.
  int64_t x_stride;
  void* y;  // By pair, dense: gate_up: T [pairs][F]; down: f32 [pairs][D].
};

// A number pair (k, k + 1) of 16 bytes as bf16, exactly; pair is a constant.
template <Stored kStored>
__device__ inline uint32_t Pair(const uint4& v, int pair) {
  constexpr int kPerWord = kPerLoad<kStored> / 8;  // Pairs in a word.
  const int word = pair / kPerWord, within = pair % kPerWord;
  const uint32_t w = word == 0 ? v.x : word == 1 ? v.y : word == 2 ? v.z : v.w;
  if constexpr (kStored == Stored::kE4M3) {
    __nv_fp8x2_e4m3 two;
    two.__x = static_cast<__nv_fp8x2_storage_t>(w >> (16 * within));
    const float2 f = static_cast<float2>(two);
    const uint32_t low = __bfloat16_as_ushort(__float2bfloat16_rn(f.x));
    const uint32_t high = __bfloat16_as_ushort(__float2bfloat16_rn(f.y));
    return low | high << 16;
  } else if constexpr (kStored == Stored::kInt4) {
    // 0x4300 | n is 128 + n.
    const uint32_t q = w >> (8 * within);
    const uint32_t raised = (q & 0xfu) | (q & 0xf0u) << 12 | 0x43004300u;
    const float low = __uint_as_float(raised << 16) - 136.0f;
    const float high = __uint_as_float(raised & 0xffff0000u) - 136.0f;
    return __float_as_uint(low) >> 16 | (__float_as_uint(high) & 0xffff0000u);
  } else {
    return w;
  }
}

template <Stored kStored>
__device__ inline const char* RowOf(const Matrix& w, int64_t row) {
  return static_cast<const char*>(w.data) + row * w.stride * 16 / kPerLoad<kStored>;
}
template <Stored kStored>
__device__ inline float ScaleOf(const Matrix& w, int64_t row) {
  if constexpr (kStored == Stored::kE4M3) return w.scales[row];
  return 1.0f;
}

// One warp: sum[j] += (its chunks of) weight rows (row0, row1: the lane's) times the pairs whose
// numbers x[j] points to (the lane's), for the first `columns` columns of 8 pairs.
template <Stored kStored, int kColumns>
__device__ inline void MultiplyChunks(const Matrix& w, int64_t row0, int64_t row1, int64_t in,
                                      const uint16_t* const (&x)[kColumns], int columns,
                                      float (&sum)[kColumns][4]) {
  constexpr int kPer = kPerLoad<kStored>, kChunk = 4 * kPer;
  // Chunks whose weights a warp has under way at once: what the registers allow.
  constexpr int kAhead = kStored == Stored::kInt4 && kColumns > 1 ? 2 : 4;
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const char *const from0 = RowOf<kStored>(w, row0), *const from1 = RowOf<kStored>(w, row1);
  const int64_t chunks = (in + kChunk - 1) / kChunk, groups = (in + kInt4Group - 1) / kInt4Group;
  const uint4 zero = make_uint4(0, 0, 0, 0);
  for (int64_t begin = warp; begin < chunks; begin += kWarps * kAhead) {
    uint4 w0[kAhead], w1[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int64_t k = (begin + i * kWarps) * kChunk + lane % 4 * kPer;
      w0[i] = k < in ? LoadOnce16(from0 + k * 16 / kPer) : zero;
      w1[i] = k < in ? LoadOnce16(from1 + k * 16 / kPer) : zero;
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int64_t chunk = begin + i * kWarps;
      if (chunk < chunks) {
        const int64_t k = chunk * kChunk + lane % 4 * kPer;
        float part[kColumns][4] = {};  // Of one group of int4.
#pragma unroll
        for (int eight = 0; eight < kPer / 8; ++eight) {
          uint32_t a[2][4];
#pragma unroll
          for (int step = 0; step < 2; ++step) {
            const int pair = 4 * eight + 2 * step;
            a[step][0] = Pair<kStored>(w0[i], pair);
            a[step][1] = Pair<kStored>(w1[i], pair);
            a[step][2] = Pair<kStored>(w0[i], pair + 1);
            a[step][3] = Pair<kStored>(w1[i], pair + 1);
          }
#pragma unroll
          for (int j = 0; j < kColumns; ++j) {
            if (j < columns) {
              const uint4 v =
                  k + eight * 8 < in ? *reinterpret_cast<const uint4*>(x[j] + k + eight * 8) : zero;
              const uint32_t b0[2] = {v.x, v.y}, b1[2] = {v.z, v.w};
              float(&to)[4] = kStored == Stored::kInt4 ? part[j] : sum[j];
              Mma16816(to, a[0], b0);
              Mma16816(to, a[1], b1);
            }
          }
        }
        if constexpr (kStored == Stored::kInt4) {
          const float scale0 = w.scales[row0 * groups + chunk];
          const float scale1 = w.scales[row1 * groups + chunk];
#pragma unroll
          for (int j = 0; j < kColumns; ++j) {
            sum[j][0] = fmaf(scale0, part[j][0], sum[j][0]);
            sum[j][1] = fmaf(scale0, part[j][1], sum[j][1]);
            sum[j][2] = fmaf(scale1, part[j][2], sum[j][2]);
            sum[j][3] = fmaf(scale1, part[j][3], sum[j][3]);
          }
        }
      }
    }
  }
}

__device__ inline float Silu(float v) { return v / (1 + expf(-v)); }

// The 16 weight rows of CTA x, tile y. gate_up: 8 rows of G and the same 8 of U, so that a lane
// holds both of an element; down: 16 rows.
template <Stored kStored, int kColumns, bool kGateUp>
__global__ void __launch_bounds__(kThreads, 2) TileKernel(ProductArgs a) {
  __shared__ float4 parts[kWarps][kColumns][32];
  GridDependencyWait();
  GridDependencyLaunch();
  const ExpertTile tile = a.tiles[blockIdx.y];
  if (tile.rows == 0) return;
  const Matrix w = kGateUp ? a.experts[tile.expert].gate_up : a.experts[tile.expert].down;
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int columns = (tile.rows + 7) / 8;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * (kGateUp ? 8 : 16) + lane / 4;
  const int64_t second = first + 8;
  // Rows past the last are computed as the last, and thrown away; so are pairs past the tile's.
  const int64_t row0 = first < a.out ? first : a.out - 1;
  const int64_t row1 = kGateUp ? a.out + row0 : second < a.out ? second : a.out - 1;
  const uint16_t* x[kColumns];
#pragma unroll
  for (int j = 0; j < kColumns; ++j) {
    const int at = j * 8 + lane / 4;
    const int64_t pair = a.order[tile.first + (at < tile.rows ? at : 0)];
    x[j] = static_cast<const uint16_t*>(a.x) + (kGateUp ? pair / a.chosen : pair) * a.x_stride;
  }
  float sum[kColumns][4] = {};
  MultiplyChunks<kStored, kColumns>(w, row0, row1, a.in, x, columns, sum);
#pragma unroll
  for (int j = 0; j < kColumns; ++j) {
    parts[warp][j][lane] = make_float4(sum[j][0], sum[j][1], sum[j][2], sum[j][3]);
  }
  __syncthreads();
  if (warp >= columns) return;
  float4 all = parts[0][warp][lane];
#pragma unroll
  for (int i = 1; i < kWarps; ++i) {
    const float4 part = parts[i][warp][lane];
    all.x += part.x, all.y += part.y, all.z += part.z, all.w += part.w;
  }
  const float scale0 = ScaleOf<kStored>(w, row0), scale1 = ScaleOf<kStored>(w, row1);
  const float values[2][2] = {{all.x * scale0, all.y * scale0}, {all.z * scale1, all.w * scale1}};
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int at = warp * 8 + lane % 4 * 2 + i;
    if (at < tile.rows) {
      const int64_t to = a.order[tile.first + at] * a.out;
      if constexpr (kGateUp) {
        if (first < a.out) {
          static_cast<__nv_bfloat16*>(a.y)[to + first] =
              __float2bfloat16_rn(Silu(values[0][i]) * values[1][i]);
        }
      } else {
        if (first < a.out) static_cast<float*>(a.y)[to + first] = values[0][i];
        if (second < a.out) static_cast<float*>(a.y)[to + second] = values[1][i];
      }
    }
  }
}

__device__ inline float Number(float v) { return v; }
__device__ inline float Number(__nv_bfloat16 v) { return __bfloat162float(v); }

// One warp: a dot product in the f32 mode, on all lanes.
template <typename W>
__device__ inline float Dot(const Matrix& w, int64_t row, const float* x, int64_t in, int lane) {
  const W* const from = static_cast<const W*>(w.data) + row * w.stride;
  float sum = 0;
  for (int64_t k = lane; k < in; k += 32) sum = fmaf(Number(from[k]), x[k], sum);
#pragma unroll
  for (int d = 16; d > 0; d /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, d);
  return sum;
}

// The f32 mode, for exact comparisons: element CTA x * 8 + warp of pair y.
template <typename W, bool kGateUp>
__global__ void __launch_bounds__(kThreads) PlainKernel(ProductArgs a, const int32_t* experts) {
  GridDependencyWait();
  GridDependencyLaunch();
  const int lane = static_cast<int>(threadIdx.x % 32);
  const int64_t pair = blockIdx.y;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row >= a.out) return;
  const ExpertMatrices& expert = a.experts[experts[pair]];
  const float* const x =
      static_cast<const float*>(a.x) + (kGateUp ? pair / a.chosen : pair) * a.x_stride;
  float value = Dot<W>(kGateUp ? expert.gate_up : expert.down, row, x, a.in, lane);
  if constexpr (kGateUp) {
    value = Silu(value) * Dot<W>(expert.gate_up, a.out + row, x, a.in, lane);
  }
  if (lane == 0) static_cast<float*>(a.y)[pair * a.out + row] = value;
}

// out[n] = sum over i, rising, of weights[n][i] * y[n][i].
__global__ void __launch_bounds__(kThreads)
    SumExpertsKernel(const float* weights, const float* y, int chosen, int64_t width, float* out,
                     int64_t stride) {
  GridDependencyWait();
  GridDependencyLaunch();
  const int64_t n = blockIdx.y;
  const int64_t c = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (c >= width) return;
  float sum = 0;
  for (int64_t pair = n * chosen; pair < (n + 1) * chosen; ++pair) {
    sum = fmaf(weights[pair], y[pair * width + c], sum);
  }
  out[n * stride + c] = sum;
}

// Where everything is in the scratch of one pass.
struct Scratch {
  ExpertPlan plan;
  void* hidden = nullptr;  // [pairs][F]
  float* parts = nullptr;  // [pairs][D]
  int64_t bytes = 0;
};

int TileRows(int64_t rows) { return rows <= kFewRows ? 8 : 8 * kWidestTiles; }

Scratch Lay(const MixExpertsArgs& args, int64_t rows) {
  Scratch scratch;
  const auto take = [&](int64_t bytes) {
    char* const at = static_cast<char*>(args.scratch) + scratch.bytes;
    scratch.bytes += (bytes + 255) / 256 * 256;
    return at;
  };
  const int64_t pairs = rows * args.choice.chosen;
  const int64_t tiles = MostExpertTiles(pairs, args.num_experts, TileRows(rows));
  scratch.plan.num_tiles = static_cast<int>(tiles);
  scratch.plan.chosen = reinterpret_cast<int32_t*>(take(pairs * 4));
  scratch.plan.weights = reinterpret_cast<float*>(take(pairs * 4));
  scratch.plan.order = reinterpret_cast<int32_t*>(take(pairs * 4));
  scratch.plan.tiles =
      reinterpret_cast<ExpertTile*>(take(tiles * static_cast<int64_t>(sizeof(ExpertTile))));
  scratch.hidden = take(pairs * args.ffn * static_cast<int64_t>(BytesOf(args.x.dtype)));
  scratch.parts = reinterpret_cast<float*>(take(pairs * args.out.cols * 4));
  return scratch;
}

unsigned Ceil(int64_t a, int64_t b) { return static_cast<unsigned>((a + b - 1) / b); }

template <Stored kStored, int kColumns>
void LaunchTiles(const ProductArgs& gate_up, const ProductArgs& down, unsigned tiles,
                 cudaStream_t stream) {
  Launch(TileKernel<kStored, kColumns, true>,
         {dim3(Ceil(gate_up.out, 8), tiles), dim3(kThreads), 0, stream, true}, gate_up);
  Launch(TileKernel<kStored, kColumns, false>,
         {dim3(Ceil(down.out, 16), tiles), dim3(kThreads), 0, stream, true}, down);
}

template <Stored kStored>
void LaunchTiles(const ProductArgs& gate_up, const ProductArgs& down, unsigned tiles, int tile_rows,
                 cudaStream_t stream) {
  if (tile_rows == 8) {
    LaunchTiles<kStored, 1>(gate_up, down, tiles, stream);
  } else {
    LaunchTiles<kStored, kWidestTiles>(gate_up, down, tiles, stream);
  }
}

template <typename W>
void LaunchPlain(const ProductArgs& gate_up, const ProductArgs& down, int64_t pairs,
                 const int32_t* experts, cudaStream_t stream) {
  const unsigned y = static_cast<unsigned>(pairs);
  Launch(PlainKernel<W, true>,
         {dim3(Ceil(gate_up.out, kWarps), y), dim3(kThreads), 0, stream, true}, gate_up, experts);
  Launch(PlainKernel<W, false>, {dim3(Ceil(down.out, kWarps), y), dim3(kThreads), 0, stream, true},
         down, experts);
}

// At most kPassRows rows.
void MixPass(const MixExpertsArgs& args, cudaStream_t stream) {
  const int64_t rows = args.x.rows, pairs = rows * args.choice.chosen, width = args.out.cols;
  const Scratch scratch = Lay(args, rows);
  const int tile_rows = TileRows(rows);
  const unsigned tiles = static_cast<unsigned>(scratch.plan.num_tiles);
  ChooseExperts(args.scores, args.choice, tile_rows, scratch.plan, stream);
  const ProductArgs gate_up{.experts = args.experts,
                            .tiles = scratch.plan.tiles,
                            .order = scratch.plan.order,
                            .chosen = args.choice.chosen,
                            .in = args.x.cols,
                            .out = args.ffn,
                            .x = args.x.data,
                            .x_stride = args.x.stride,
                            .y = scratch.hidden};
  ProductArgs down = gate_up;
  down.in = args.ffn, down.out = width;
  down.x = scratch.hidden, down.x_stride = args.ffn, down.y = scratch.parts;
  if (args.x.dtype == DType::kF32) {
    if (args.stored == Stored::kF32) {
      LaunchPlain<float>(gate_up, down, pairs, scratch.plan.chosen, stream);
    } else {
      LaunchPlain<__nv_bfloat16>(gate_up, down, pairs, scratch.plan.chosen, stream);
    }
  } else if (args.stored == Stored::kE4M3) {
    LaunchTiles<Stored::kE4M3>(gate_up, down, tiles, tile_rows, stream);
  } else if (args.stored == Stored::kInt4) {
    LaunchTiles<Stored::kInt4>(gate_up, down, tiles, tile_rows, stream);
  } else {
    LaunchTiles<Stored::kBF16>(gate_up, down, tiles, tile_rows, stream);
  }
  Launch(
      SumExpertsKernel,
      {dim3(Ceil(width, kThreads), static_cast<unsigned>(rows)), dim3(kThreads), 0, stream, true},
      scratch.plan.weights, scratch.parts, args.choice.chosen, width, args.out.row(0),
      args.out.stride);
}

}  // namespace

int64_t ExpertScratchBytes(const MixExpertsArgs& args) {
  return Lay(args, std::min<int64_t>(args.x.rows, kPassRows)).bytes;
}

void MixExperts(const MixExpertsArgs& args, cudaStream_t stream) {
  for (int64_t row = 0; row < args.x.rows; row += kPassRows) {
    const int64_t rows = std::min<int64_t>(args.x.rows - row, kPassRows);
    MixExpertsArgs pass = args;
    pass.x = args.x.Rows(row, rows);
    pass.scores = args.scores.Rows(row, rows);
    pass.out = args.out.Rows(row, rows);
    MixPass(pass, stream);
  }
}

}  // namespace conclave::worker::cuda
