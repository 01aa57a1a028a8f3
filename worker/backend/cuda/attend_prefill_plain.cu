#include <cmath>

#include "worker/backend/cuda/attend_prefill_plain.h"

namespace conclave::worker::cuda {
namespace {

constexpr unsigned kAllLanes = 0xffffffff;

__device__ inline float AsFloat(float x) { return x; }
__device__ inline float AsFloat(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float AsFloat(__nv_fp8_e4m3 x) { return static_cast<float>(x); }

__device__ inline void Put(float x, float* to) { *to = x; }
__device__ inline void Put(float x, __nv_bfloat16* to) { *to = __float2bfloat16(x); }

// One warp attends one row for one query head: 32 positions at a time, at multiples of 32, a key
// for each lane, then the elements of their values shared out among the lanes. Shared: E sums, then
// the weights of 32 positions.
template <typename T, typename Kv>
__global__ void __launch_bounds__(32) PlainKernel(AttendArgs args) {
  GridDependencyWait();
  const int width = args.kv.head_width;
  const int row = static_cast<int>(blockIdx.x);
  const int head = static_cast<int>(blockIdx.y);
  const int lane = static_cast<int>(threadIdx.x);
  const int kv_head = head / static_cast<int>(gridDim.y / args.kv.kv_heads);
  const int position = args.batch.positions[row];
  const int32_t* table = args.batch.blocks + args.batch.tables[row];
  const int first = args.window > 0 && position >= args.window ? position - args.window + 1 : 0;
  const int64_t block_stride = int64_t{args.kv.kv_heads} * kKvBlock * width;
  const auto offset = [&](int at) {
    return table[at / kKvBlock] * block_stride +
           (int64_t{kv_head} * kKvBlock + at % kKvBlock) * width;
  };
  const Kv* keys = static_cast<const Kv*>(args.kv.keys);
  const Kv* values = static_cast<const Kv*>(args.kv.values);
  const T* q = static_cast<const T*>(args.q.data) + row * args.q.stride + int64_t{head} * width;
  T* out = static_cast<T*>(args.out.data) + row * args.out.stride + int64_t{head} * width;

  float* sums = DynamicShared<float>();
  float* weights = sums + width;
  for (int e = lane; e < width; e += 32) sums[e] = 0;  // A lane reads and writes its own only.
  float max = -INFINITY, total = 0;
  for (int from = first / 32 * 32; from <= position; from += 32) {
    const int at = from + lane;
    float score = -INFINITY;
    if (at >= first && at <= position) {
      const Kv* key = keys + offset(at);
      float dot = 0;
      for (int e = 0; e < width; ++e) dot = fmaf(AsFloat(q[e]), AsFloat(key[e]), dot);
      score = dot * args.scale;
    }
    float greatest = score;
    for (int other = 16; other > 0; other /= 2) {
      greatest = fmaxf(greatest, __shfl_xor_sync(kAllLanes, greatest, other));
    }
    const float new_max = fmaxf(max, greatest);  // Finite: the row sees a position of each piece.
    const float factor = expf(max - new_max);
    max = new_max;
    weights[lane] = expf(score - max);
    __syncwarp();
    const int begin = from < first ? first - from : 0;
    const int end = position - from < 31 ? position - from + 1 : 32;
    float sum = 0;
    for (int i = begin; i < end; ++i) sum += weights[i];
    total = fmaf(total, factor, sum);
    for (int e = lane; e < width; e += 32) sums[e] *= factor;
    for (int i = begin; i < end; ++i) {
      const Kv* value = values + offset(from + i);
      for (int e = lane; e < width; e += 32) {
        sums[e] = fmaf(weights[i], AsFloat(value[e]), sums[e]);
      }
    }
    __syncwarp();
  }
  for (int e = lane; e < width; e += 32) Put(sums[e] / total, out + e);
}

template <typename T>
void LaunchFor(const AttendArgs& args, const LaunchShape& shape) {
  switch (args.kv.stored) {
    case Stored::kF32:
      return Launch(PlainKernel<T, float>, shape, args);
    case Stored::kBF16:
      return Launch(PlainKernel<T, __nv_bfloat16>, shape, args);
    default:
      return Launch(PlainKernel<T, __nv_fp8_e4m3>, shape, args);
  }
}

}  // namespace

void AttendPrefillPlain(const AttendArgs& args, cudaStream_t stream) {
  const auto heads = static_cast<unsigned>(args.q.cols / args.kv.head_width);
  LaunchShape shape;
  shape.grid = dim3(static_cast<unsigned>(args.batch.prompt_rows), heads);
  shape.block = dim3(32);
  shape.shared_bytes = (static_cast<size_t>(args.kv.head_width) + 32) * sizeof(float);
  shape.stream = stream;
  shape.early = true;
  if (args.q.dtype == DType::kF32) {
    LaunchFor<float>(args, shape);
  } else {
    LaunchFor<__nv_bfloat16>(args, shape);
  }
}

}  // namespace conclave::worker::cuda
