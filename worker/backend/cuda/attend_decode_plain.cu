#include <cmath>

#include "worker/backend/cuda/attend_pieces.h"

namespace conclave::worker::cuda {
namespace {

constexpr int kThreads = 128;

__device__ inline float Number(float x) { return x; }
__device__ inline float Number(__nv_bfloat16 x) { return __bfloat162float(x); }
// Sign, exponent and mantissa at their places; 2^120 makes up for the exponents' biases.
__device__ inline float Number(__nv_fp8_e4m3 x) {
  const uint32_t bits = x.__x;
  return __uint_as_float((bits & 0x80u) << 24 | (bits & 0x7fu) << 20) * 0x1p120f;
}

// One block: one item and one KV head; its query rows one after another. Sums go in the order of
// elements and of positions.
template <typename Q, typename Kv>
__global__ void __launch_bounds__(kThreads, 4) PlainPieces(PieceArgs args) {
  GridDependencyWait();
  const DecodeItem item = args.items[blockIdx.x / args.kv_heads];
  const int kv_head = static_cast<int>(blockIdx.x % args.kv_heads);
  const int width = args.head_width, thread = static_cast<int>(threadIdx.x);
  float* const query = DynamicShared<float>();
  __shared__ float scores[kPiece];
  __shared__ float weights[kPiece];
  // Where in keys and values the piece's position t of this head is.
  const auto place = [&](int t) {
    const int32_t block = args.blocks[item.blocks + t / kKvBlock];
    return block * args.block_stride + int64_t{kv_head * kKvBlock + t % kKvBlock} * width;
  };
  const Kv* const keys = static_cast<const Kv*>(args.keys);
  const Kv* const values = static_cast<const Kv*>(args.values);
  for (int i = 0; i < item.rows * args.group; ++i) {
    const int row = args.item_rows[item.first + i / args.group];
    const int head = kv_head * args.group + i % args.group;
    const Q* const q = static_cast<const Q*>(args.q) + row * args.q_stride + int64_t{head} * width;
    for (int e = thread; e < width; e += kThreads) query[e] = Number(q[e]);
    __syncthreads();
    for (int t = item.from + thread; t < item.to; t += kThreads) {
      const Kv* const key = keys + place(t);
      float dot = 0;
      for (int e = 0; e < width; ++e) dot = fmaf(query[e], Number(key[e]), dot);
      scores[t] = dot * args.scale;
    }
    __syncthreads();
    float greatest = scores[item.from];
    for (int t = item.from + 1; t < item.to; ++t) greatest = fmaxf(greatest, scores[t]);
    for (int t = item.from + thread; t < item.to; t += kThreads) {
      weights[t] = expf(scores[t] - greatest);
    }
    __syncthreads();
    const int64_t part = PartOf(args, row, head, item.piece);
    for (int e = thread; e < width; e += kThreads) {
      float sum = 0;
      for (int t = item.from; t < item.to; ++t) {
        sum = fmaf(weights[t], Number(values[place(t) + e]), sum);
      }
      args.sums[part * width + e] = sum;
    }
    if (thread == 0) {
      float sum = 0;
      for (int t = item.from; t < item.to; ++t) sum += weights[t];
      args.stats[part] = make_float2(greatest, sum);
    }
  }
}

template <typename Q, typename Kv>
void Start(const PieceArgs& args, int num_items, cudaStream_t stream) {
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(num_items * args.kv_heads)),
                          .block = dim3(kThreads),
                          // Rounded up: the compiler reads four at a time.
                          .shared_bytes = static_cast<size_t>(args.head_width + 3) / 4 * 16,
                          .stream = stream,
                          .early = true};
  Launch(PlainPieces<Q, Kv>, shape, args);
}

template <typename Q>
void StartOf(const PieceArgs& args, int num_items, Stored stored, cudaStream_t stream) {
  switch (stored) {
    case Stored::kBF16:
      return Start<Q, __nv_bfloat16>(args, num_items, stream);
    case Stored::kE4M3:
      return Start<Q, __nv_fp8_e4m3>(args, num_items, stream);
    default:
      return Start<Q, float>(args, num_items, stream);
  }
}

}  // namespace

void LaunchPlainPieces(const PieceArgs& args, int num_items, DType q, Stored stored,
                       cudaStream_t stream) {
  if (q == DType::kBF16) {
    StartOf<__nv_bfloat16>(args, num_items, stored, stream);
  } else {
    StartOf<float>(args, num_items, stored, stream);
  }
}

}  // namespace conclave::worker::cuda
