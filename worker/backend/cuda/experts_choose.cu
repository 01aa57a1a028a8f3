#include <algorithm>
#include <cmath>

#include "worker/backend/cuda/experts_choose.h"

// Two small kernels, or one for few rows, bound by latency: a warp chooses for a row, and one CTA
// gathers the pairs by expert.
namespace conclave::worker::cuda {
namespace {

constexpr int kWarps = 8;       // Of the kernel that chooses for many rows.
constexpr int kFusedRows = 32;  // Up to so many rows, one CTA with a warp for each does it all.
constexpr int kThreads = 1024;  // Of the CTA that gathers.
constexpr unsigned kAll = 0xffffffffu;

struct ChooseArgs {
  const float* scores;
  int64_t stride;
  int32_t rows, experts, chosen;
  bool renormalise;
  int32_t tile_rows;
  ExpertPlan plan;
};

// 32-bit words of shared memory that one warp needs to choose.
__host__ __device__ inline int WarpWords(int experts, int chosen) { return experts + 4 * chosen; }

__device__ inline float WarpMax(float v) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) v = fmaxf(v, __shfl_xor_sync(kAll, v, d));
  return v;
}
__device__ inline float WarpSum(float v) {
#pragma unroll
  for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(kAll, v, d);
  return v;
}

// Keys order probabilities, whatever the scores were (a padded row's may be NaN): 0 is "taken".
__device__ inline uint32_t KeyOf(float p) { return (__float_as_uint(p) & 0x7fffffffu) + 1; }

// p = softmax(scores), as keys in `keys`; lane l has the experts l, l + 32, ...
__device__ inline void SoftmaxKeys(const float* scores, int experts, int lane, uint32_t* keys) {
  float max = -INFINITY, sum = 0;
  for (int e = lane; e < experts; e += 32) max = fmaxf(max, scores[e]);
  max = WarpMax(max);
  for (int e = lane; e < experts; e += 32) {
    const float p = expf(scores[e] - max);
    keys[e] = __float_as_uint(p);
    sum += p;
  }
  sum = WarpSum(sum);
  for (int e = lane; e < experts; e += 32) keys[e] = KeyOf(__uint_as_float(keys[e]) / sum);
}

// One warp: row n's experts and weights, in rising order. `words`: the warp's shared memory.
__device__ inline void ChooseRow(const ChooseArgs& a, int n, int lane, uint32_t* words) {
  uint32_t* const keys = words;
  int32_t* const picks = reinterpret_cast<int32_t*>(words + a.experts);
  float* const values = reinterpret_cast<float*>(picks + a.chosen);
  int32_t* const sorted = picks + 2 * a.chosen;
  float* const sorted_values = reinterpret_cast<float*>(picks + 3 * a.chosen);
  SoftmaxKeys(a.scores + n * a.stride, a.experts, lane, keys);
  for (int i = 0; i < a.chosen; ++i) {
    uint32_t best = 0;
    int expert = a.experts;
    for (int e = lane; e < a.experts; e += 32) {
      if (keys[e] > best) best = keys[e], expert = e;
    }
#pragma unroll
    for (int d = 16; d > 0; d /= 2) {
      const uint32_t other = __shfl_xor_sync(kAll, best, d);
      const int other_expert = __shfl_xor_sync(kAll, expert, d);
      if (other > best || (other == best && other_expert < expert)) {
        best = other, expert = other_expert;
      }
    }
    if (expert % 32 == lane) {  // The lane that has it.
      keys[expert] = 0;
      picks[i] = expert;
      values[i] = __uint_as_float(best - 1);
    }
  }
  __syncwarp();
  for (int i = lane; i < a.chosen; i += 32) {
    int place = 0;
    for (int j = 0; j < a.chosen; ++j) place += picks[j] < picks[i] ? 1 : 0;
    sorted[place] = picks[i];
    sorted_values[place] = values[i];
  }
  __syncwarp();
  float sum = a.renormalise ? 0.0f : 1.0f;
  for (int i = 0; a.renormalise && i < a.chosen; ++i) sum += sorted_values[i];
  for (int i = lane; i < a.chosen; i += 32) {
    a.plan.chosen[n * a.chosen + i] = sorted[i];
    a.plan.weights[n * a.chosen + i] = sorted_values[i] / sum;
  }
  __syncwarp();  // Before the next row uses the same memory.
}

// The whole CTA: pairs by expert, and the tiles of each. `words`: 2 * experts of shared memory.
__device__ inline void GatherPairs(const ChooseArgs& a, int32_t* words) {
  int32_t* const counts = words;
  int32_t* const places = words + a.experts;
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const int pairs = a.rows * a.chosen;
  for (int e = thread; e < a.experts; e += threads) counts[e] = 0;
  __syncthreads();
  for (int p = thread; p < pairs; p += threads) atomicAdd(&counts[a.plan.chosen[p]], 1);
  __syncthreads();
  int all_tiles = 0;
  for (int e = 0; e < a.experts; ++e) all_tiles += (counts[e] + a.tile_rows - 1) / a.tile_rows;
  for (int e = thread; e < a.experts; e += threads) {
    int first = 0, tile = 0;
    for (int i = 0; i < e; ++i) {
      first += counts[i];
      tile += (counts[i] + a.tile_rows - 1) / a.tile_rows;
    }
    places[e] = first;
    for (int at = 0; at < counts[e]; at += a.tile_rows, ++tile) {
      const int rest = counts[e] - at;
      a.plan.tiles[tile] = {e, first + at, rest < a.tile_rows ? rest : a.tile_rows};
    }
  }
  for (int t = all_tiles + thread; t < a.plan.num_tiles; t += threads) a.plan.tiles[t] = {0, 0, 0};
  __syncthreads();
  for (int p = thread; p < pairs; p += threads) {
    a.plan.order[atomicAdd(&places[a.plan.chosen[p]], 1)] = p;
  }
}

__global__ void __launch_bounds__(kWarps * 32) ChooseKernel(ChooseArgs a) {
  GridDependencyWait();
  GridDependencyLaunch();
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  const int n = static_cast<int>(blockIdx.x) * kWarps + warp;
  uint32_t* const words = DynamicShared<uint32_t>() + warp * WarpWords(a.experts, a.chosen);
  if (n < a.rows) ChooseRow(a, n, lane, words);
}

__global__ void __launch_bounds__(kThreads) GatherKernel(ChooseArgs a) {
  GridDependencyWait();
  GridDependencyLaunch();
  GatherPairs(a, DynamicShared<int32_t>());
}

__global__ void __launch_bounds__(kThreads) ChooseAndGatherKernel(ChooseArgs a) {
  GridDependencyWait();
  GridDependencyLaunch();
  const int warp = static_cast<int>(threadIdx.x / 32), lane = static_cast<int>(threadIdx.x % 32);
  uint32_t* const words = DynamicShared<uint32_t>();
  if (warp < a.rows) ChooseRow(a, warp, lane, words + warp * WarpWords(a.experts, a.chosen));
  __syncthreads();  // The choices, in global memory, are the CTA's own.
  GatherPairs(a, reinterpret_cast<int32_t*>(words));
}

}  // namespace

void ChooseExperts(Tensor scores, const ExpertChoice& choice, int tile_rows, const ExpertPlan& plan,
                   cudaStream_t stream) {
  const ChooseArgs args{.scores = scores.row(0),
                        .stride = scores.stride,
                        .rows = static_cast<int32_t>(scores.rows),
                        .experts = static_cast<int32_t>(scores.cols),
                        .chosen = choice.chosen,
                        .renormalise = choice.renormalise,
                        .tile_rows = tile_rows,
                        .plan = plan};
  const size_t warp_bytes = sizeof(uint32_t) * WarpWords(args.experts, args.chosen);
  const size_t gather_bytes = sizeof(int32_t) * 2 * static_cast<size_t>(args.experts);
  if (args.rows <= kFusedRows) {
    const size_t bytes = std::max(warp_bytes * static_cast<size_t>(args.rows), gather_bytes);
    Launch(ChooseAndGatherKernel, {dim3(1), dim3(kThreads), bytes, stream, true}, args);
    return;
  }
  const unsigned blocks = static_cast<unsigned>((args.rows + kWarps - 1) / kWarps);
  Launch(ChooseKernel, {dim3(blocks), dim3(kWarps * 32), warp_bytes * kWarps, stream, true}, args);
  Launch(GatherKernel, {dim3(1), dim3(kThreads), gather_bytes, stream, true}, args);
}

}  // namespace conclave::worker::cuda
