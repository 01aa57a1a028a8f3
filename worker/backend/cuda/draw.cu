#include "common/check.h"
#include "worker/backend/cuda/draw.h"
#include "worker/backend/cuda/greatest.cuh"
#include "worker/backend/random.h"

// A row's logits are cut into segments of fixed positions, one block each: greatest, sum of exp
// against the segment's own greatest, best candidate, and the greatest of every group of
// neighbours. Then, for each draw, one block merges segments in a fixed order, and another looks
// for the greatest numbers in the groups that can hold them. The first step is bound by the
// arithmetic of the noise (some 80 instructions a token), the second by latency. NaN counts as
// minus infinity.
namespace conclave::worker::cuda {
namespace {

constexpr int kSegment = 1024;  // One row of a large vocabulary is about a block a multiprocessor.
constexpr int kScanThreads = 128;
constexpr int kQuad = 4;                    // Neighbours of one thread.
constexpr int kRawGroup = kWarp * kQuad;    // For the raw logits: what one warp reads at once.
constexpr int kValueGroup = kRawGroup / 4;  // For what is drawn from: `keep` is greater.
constexpr int kTurns = kSegment / (kScanThreads * kQuad);
constexpr int kFewThreads = 256, kManyThreads = 1024;  // Of a merge.

// Between the kernels, for each draw.
struct Scratch {
  uint64_t* best;       // [draws][segments]: keys.
  float2* sums;         // [draws][segments]: greatest, sum of exp.
  float* raw_groups;    // [draws][raw_count()]: greatest logit of each group.
  float* value_groups;  // [draws][value_count()]; null when nothing is kept.
  int width, segments;

  __host__ __device__ int raw_count() const { return (width + kRawGroup - 1) / kRawGroup; }
  __host__ __device__ int value_count() const { return (width + kValueGroup - 1) / kValueGroup; }
};

// Device memory is one round trip away, the launch's own arguments are here.
__device__ const DeviceDraw& DrawOf(const DrawArgs& args, int draw) {
  return args.draws != nullptr ? args.draws[draw] : args.few.of[draw];
}

__device__ float Infinity() { return __uint_as_float(0x7f800000u); }
__device__ float Clean(float x) { return x == x ? x : -Infinity(); }
// exp(x - greatest), also where both are infinite.
__device__ float ExpBelow(float x, float greatest) {
  return __expf(x == greatest ? 0.0f : x - greatest);
}

// As Adjustment::Of, with the one fused operation spelled out: every kernel gets the same bits.
__device__ float Adjusted(const Adjustment& adjust, float logit) {
  const float less = logit > 0 ? logit / adjust.repetition - adjust.subtract
                               : fmaf(logit, adjust.repetition, -adjust.subtract);
  return less + adjust.add;
}
// Over the temperature: times its inverse, never fused with what follows.
__device__ float Cooled(float value, float temperature) {
  return Clean(temperature == 0 ? value : __fmul_rn(value, 1.0f / temperature));
}

// The first of `count` adjustments whose id is at least `id`.
__device__ int FirstFrom(const Adjustment* adjust, int count, TokenId id) {
  int low = 0, high = count;
  while (low < high) {
    const int middle = (low + high) / 2;
    if (adjust[middle].id < id) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

__device__ void LoadQuad(const float* logits, int at, int width, float (&v)[kQuad]) {
  if (at + kQuad <= width && reinterpret_cast<uintptr_t>(logits) % 16 == 0) {
    const float4 quad = *reinterpret_cast<const float4*>(logits + at);
    v[0] = quad.x, v[1] = quad.y, v[2] = quad.z, v[3] = quad.w;
  } else {
#pragma unroll
    for (int i = 0; i < kQuad; ++i) v[i] = at + i < width ? logits[at + i] : -Infinity();
  }
#pragma unroll
  for (int i = 0; i < kQuad; ++i) v[i] = Clean(v[i]);
}

// Where a thread's quad of one turn begins: a warp reads a group.
__device__ int QuadAt(int turn) {
  return static_cast<int>(blockIdx.x) * kSegment + turn * kScanThreads * kQuad +
         static_cast<int>(threadIdx.x) * kQuad;
}

// Puts the draw's adjustments of this segment into v, through shared memory.
__device__ void Adjust(const DrawArgs& args, const DeviceDraw& draw, float* shared,
                       float (&v)[kTurns][kQuad]) {
  const int begin = static_cast<int>(blockIdx.x) * kSegment;
  const TokenId base = args.first + begin;
  const Adjustment* adjust = args.adjustments + draw.first_adjustment;
  const int from = FirstFrom(adjust, draw.num_adjustments, base);
  const int to = FirstFrom(adjust, draw.num_adjustments, base + kSegment);
  if (from == to) return;
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    *reinterpret_cast<float4*>(shared + QuadAt(turn) - begin) =
        make_float4(v[turn][0], v[turn][1], v[turn][2], v[turn][3]);
  }
  __syncthreads();
  for (int i = from + static_cast<int>(threadIdx.x); i < to; i += kScanThreads) {
    float& value = shared[adjust[i].id - base];
    value = Adjusted(adjust[i], value);
  }
  __syncthreads();
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    const float4 quad = *reinterpret_cast<const float4*>(shared + QuadAt(turn) - begin);
    v[turn][0] = quad.x, v[turn][1] = quad.y, v[turn][2] = quad.z, v[turn][3] = quad.w;
  }
}

// The key of a warp's greatest candidate, with its noise. -log(v), made quickly, bounds the noise
// from above, for -log1p(-v) >= v. So each lane makes the noise of its likeliest candidate, and
// then of those alone whose bound reaches the best of these: two exact logarithms for few, not for
// all.
__device__ uint64_t BestOf(const DrawArgs& args, const DeviceDraw& draw, int width,
                           const float (&v)[kTurns][kQuad]) {
  constexpr float kSlack = 1e-4f;  // More than the quick logarithm's error.
  const bool greedy = draw.temperature == 0;
  float uniform[kTurns][kQuad], bound[kTurns][kQuad];
  float most = -Infinity();
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      uniform[turn][i] = 0.5f, bound[turn][i] = v[turn][i];
      if (!greedy) {
        const auto id = static_cast<uint32_t>(args.first + QuadAt(turn) + i);
        uniform[turn][i] = NoiseUniform(draw.seed, draw.agent, draw.index, id);
        bound[turn][i] += kSlack - __logf(uniform[turn][i]);
      }
      most = fmaxf(most, bound[turn][i]);
    }
  }
  float likeliest = -Infinity(), its_uniform = 0.5f;
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      if (bound[turn][i] == most) likeliest = v[turn][i], its_uniform = uniform[turn][i];
    }
  }
  const float least = WarpMax(greedy ? likeliest : Clean(likeliest + NoiseOf(its_uniform)));

  uint64_t best = 0;
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      const int position = QuadAt(turn) + i;
      if (position >= width || bound[turn][i] < least) continue;
      const float value = greedy ? v[turn][i] : Clean(v[turn][i] + NoiseOf(uniform[turn][i]));
      const uint64_t key = KeyOf(value, position);
      best = key > best ? key : best;
    }
  }
  return WarpMax(best);
}

// Grid: segments, draws.
__global__ void __launch_bounds__(kScanThreads) ScanSegments(DrawArgs args, Scratch scratch) {
  constexpr int kWarps = kScanThreads / kWarp;
  __shared__ __align__(16) float values[kSegment];
  __shared__ float greatest[kWarps], sums[kWarps];
  __shared__ uint64_t bests[kWarps];
  GridDependencyWait();
  GridDependencyLaunch();
  const DeviceDraw draw = DrawOf(args, static_cast<int>(blockIdx.y));
  const int width = scratch.width;
  const int warp = static_cast<int>(threadIdx.x) / kWarp,
            lane = static_cast<int>(threadIdx.x) % kWarp;

  float raw[kTurns][kQuad], v[kTurns][kQuad];
  float most = -Infinity();
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
    const int at = QuadAt(turn);
    LoadQuad(draw.logits, at, width, raw[turn]);
    const float group =
        WarpMax(fmaxf(fmaxf(raw[turn][0], raw[turn][1]), fmaxf(raw[turn][2], raw[turn][3])));
    most = fmaxf(most, group);
    if (lane == 0 && at < width) {
      scratch.raw_groups[static_cast<int64_t>(blockIdx.y) * scratch.raw_count() + at / kRawGroup] =
          group;
    }
  }
  if (lane == 0) greatest[warp] = most;
  __syncthreads();
#pragma unroll
  for (int w = 0; w < kWarps; ++w) most = fmaxf(most, greatest[w]);

  float sum = 0;
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      sum += QuadAt(turn) + i < width ? ExpBelow(raw[turn][i], most) : 0.0f;
      v[turn][i] = raw[turn][i];
    }
  }
  sum = WarpSum(sum);

  if (draw.num_adjustments > 0) Adjust(args, draw, values, v);
#pragma unroll
  for (int turn = 0; turn < kTurns; ++turn) {
#pragma unroll
    for (int i = 0; i < kQuad; ++i) v[turn][i] = Cooled(v[turn][i], draw.temperature);
  }
  uint64_t best = 0;
  if (draw.keep == 0) {
    best = BestOf(args, draw, width, v);
  } else {
#pragma unroll
    for (int turn = 0; turn < kTurns; ++turn) {
      const int at = QuadAt(turn);
      const float group = WarpMax<kValueGroup / kQuad>(
          fmaxf(fmaxf(v[turn][0], v[turn][1]), fmaxf(v[turn][2], v[turn][3])));
      if (at % kValueGroup == 0 && at < width) {
        scratch.value_groups[static_cast<int64_t>(blockIdx.y) * scratch.value_count() +
                             at / kValueGroup] = group;
      }
    }
  }

  if (lane == 0) sums[warp] = sum, bests[warp] = best;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < kWarps; ++w) {
    sum += sums[w];
    best = bests[w] > best ? bests[w] : best;
  }
  const int64_t at = static_cast<int64_t>(blockIdx.y) * scratch.segments + blockIdx.x;
  scratch.sums[at] = make_float2(most, sum);
  scratch.best[at] = best;
}

// The first warp: segments merged by lanes in turn, then lanes as a tree.
__device__ void MergeSegments(const DrawArgs& args, const Scratch& scratch, float* head) {
  const int draw = static_cast<int>(blockIdx.x), lane = static_cast<int>(threadIdx.x);
  const float2* sums = scratch.sums + static_cast<int64_t>(draw) * scratch.segments;
  const uint64_t* bests = scratch.best + static_cast<int64_t>(draw) * scratch.segments;
  float most = -Infinity(), sum = 0;
  uint64_t best = 0;
#pragma unroll 4
  for (int s = lane; s < scratch.segments; s += kWarp) {
    most = fmaxf(most, sums[s].x);
    best = bests[s] > best ? bests[s] : best;
  }
  most = WarpMax(most);
#pragma unroll 4
  for (int s = lane; s < scratch.segments; s += kWarp) {
    sum = fmaf(sums[s].y, ExpBelow(sums[s].x, most), sum);
  }
  sum = WarpSum(sum);
  best = WarpMax(best);
  if (lane != 0) return;
  head[0] = most, head[1] = sum;
  Candidate chosen{-Infinity(), 0, -1};
  if (best != 0) {
    const int position = PositionOf(best);
    chosen = {ValueOf(best), Clean(DrawOf(args, draw).logits[position]), args.first + position};
  }
  args.best[draw] = chosen;
  if (args.drawn != nullptr) args.drawn[draw] = chosen.id;
}

struct RawValues {
  const float* logits;
  __device__ float operator()(int position) const { return Clean(logits[position]); }
};

// What a draw with `keep` draws from, as ScanSegments has it.
struct DrawValues {
  const float* logits;
  const Adjustment* adjust;
  int num_adjustments;
  TokenId first;
  float temperature;

  __device__ float operator()(int position) const {
    float value = Clean(logits[position]);
    if (num_adjustments > 0) {
      const TokenId id = first + position;
      const int at = FirstFrom(adjust, num_adjustments, id);
      if (at < num_adjustments && adjust[at].id == id) value = Adjusted(adjust[at], value);
    }
    return Cooled(value, temperature);
  }
};

// The greatest raw logits and whose they are, to what comes back.
__device__ void FindTop(const DrawArgs& args, const Scratch& scratch, float* head,
                        GreatestRoom& room) {
  const int draw = static_cast<int>(blockIdx.x), i = static_cast<int>(threadIdx.x);
  const GroupKeys groups{scratch.raw_groups + static_cast<int64_t>(draw) * scratch.raw_count(),
                         scratch.raw_count()};
  const int found = Greatest<kRawGroup>(RawValues{DrawOf(args, draw).logits}, groups, scratch.width,
                                        kConfidenceTokens, room);
  if (i >= kConfidenceTokens) return;
  head[2 + i] = i < found ? ValueOf(room.list[i]) : -Infinity();
  const int id = i < found ? args.first + PositionOf(room.list[i]) : -1;
  head[2 + kConfidenceTokens + i] = __int_as_float(id);
}

// The greatest of what is drawn from.
__device__ void KeepGreatest(const DrawArgs& args, const Scratch& scratch, GreatestRoom& room) {
  const DeviceDraw draw = DrawOf(args, static_cast<int>(blockIdx.x));
  Candidate* kept = args.kept + static_cast<int64_t>(blockIdx.x) * args.most_kept;
  int found = 0;
  const DrawValues values{draw.logits, args.adjustments + draw.first_adjustment,
                          draw.num_adjustments, args.first, draw.temperature};
  if (draw.keep > 0) {
    const GroupKeys groups{
        scratch.value_groups + static_cast<int64_t>(blockIdx.x) * scratch.value_count(),
        scratch.value_count()};
    found = Greatest<kValueGroup>(values, groups, scratch.width, draw.keep, room);
  }
  for (int i = static_cast<int>(threadIdx.x); i < args.most_kept;
       i += static_cast<int>(blockDim.x)) {
    if (i < found) {
      const int position = PositionOf(room.list[i]);
      kept[i] =
          Candidate{ValueOf(room.list[i]), Clean(draw.logits[position]), args.first + position};
    } else {
      kept[i] = Candidate{-Infinity(), 0, -1};
    }
  }
}

// Grid: draws, and what of them: the segments' merge, the greatest raw logits, what is kept.
__global__ void __launch_bounds__(kManyThreads, 1) MergeDraws(DrawArgs args, Scratch scratch) {
  __shared__ GreatestRoom room;
  GridDependencyWait();
  GridDependencyLaunch();
  float* head = args.heads + static_cast<int64_t>(blockIdx.x) * kDrawHead;
  if (blockIdx.y == 0) {
    if (threadIdx.x < kWarp) MergeSegments(args, scratch, head);
  } else if (blockIdx.y == 1) {
    FindTop(args, scratch, head, room);
  } else {
    KeepGreatest(args, scratch, room);
  }
}

// Without its memory.
Scratch ScratchFor(int64_t width) {
  Scratch scratch{};
  scratch.width = static_cast<int>(width);
  scratch.segments = (scratch.width + kSegment - 1) / kSegment;
  return scratch;
}

}  // namespace

int64_t DrawScratchBytes(int num_draws, int64_t width, int most_kept) {
  const Scratch scratch = ScratchFor(width);
  const int64_t segment_bytes = sizeof(uint64_t) + sizeof(float2);
  const int64_t groups = scratch.raw_count() + (most_kept > 0 ? scratch.value_count() : 0);
  return num_draws *
         (segment_bytes * scratch.segments + static_cast<int64_t>(sizeof(float)) * groups);
}

void Draw(const DrawArgs& args, cudaStream_t stream) {
  CHECK(args.width >= 0 && args.width < int64_t{1} << 30 && args.most_kept <= kMostWanted);
  if (args.num_draws == 0) return;
  Scratch scratch = ScratchFor(args.width);
  if (args.width > 0) {
    const int64_t draws = args.num_draws;
    scratch.best = static_cast<uint64_t*>(args.scratch);
    scratch.sums = reinterpret_cast<float2*>(scratch.best + draws * scratch.segments);
    scratch.raw_groups = reinterpret_cast<float*>(scratch.sums + draws * scratch.segments);
    scratch.value_groups = scratch.raw_groups + draws * scratch.raw_count();
  }
  const unsigned draws = static_cast<unsigned>(args.num_draws);
  LaunchShape shape{.grid = dim3(static_cast<unsigned>(scratch.segments), draws),
                    .block = dim3(kScanThreads),
                    .stream = stream,
                    .early = true};
  if (args.width > 0) Launch(ScanSegments, shape, args, scratch);
  shape.grid = dim3(draws, args.most_kept > 0 ? 3 : 2);
  const bool many = args.most_kept > kFewWanted || draws <= kFewDraws;  // Few are bound by latency.
  shape.block = dim3(many ? kManyThreads : kFewThreads);
  Launch(MergeDraws, shape, args, scratch);
}

}  // namespace conclave::worker::cuda
