#include "common/check.h"
#include "worker/backend/cuda/octets.h"
#include "worker/backend/cuda/rows.h"

// (a, b) -> (a cos - b sin, b cos + a sin) for every pair (j, j + E/2) of every head of q and k, in
// f32; q in place, k and v to the pool. One thread for each octet of pairs (or one pair, where
// heads are not whole octets) of each head of q, k and v of each row. Bound by memory: reads q, k,
// v once.
namespace conclave::worker::cuda {
namespace {

constexpr int kThreads = 128;

template <typename T>
struct RopeArgs {
  T* q;
  const T *k, *v;
  int64_t q_stride, k_stride, v_stride;
  const float *cos, *sin;
  const int32_t *positions, *tables, *blocks;
  KvView kv;
  int rows, q_heads;
};

// The places of a pair of a head, kPairs neighbours each; kPairs is 8 or 1.
template <int kPairs, typename T>
__device__ void LoadPairs(const T* from, float (&v)[kPairs]) {
  if constexpr (kPairs == kOctet) {
    LoadOctet(from, v);
  } else {
    v[0] = static_cast<float>(from[0]);
  }
}
template <int kPairs, typename T>
__device__ void StorePairs(T* to, const float (&v)[kPairs]) {
  if constexpr (kPairs == kOctet) {
    StoreOctet(to, v);
  } else {
    to[0] = static_cast<T>(v[0]);
  }
}

template <int kPairs, typename T, typename Kept>
__global__ void __launch_bounds__(kThreads) RopeStoreKernel(RopeArgs<T> args) {
  const int width = args.kv.head_width, half = width / 2, kv_heads = args.kv.kv_heads;
  const unsigned parts = static_cast<unsigned>(half / kPairs);
  const unsigned heads = static_cast<unsigned>(args.q_heads + 2 * kv_heads);
  const unsigned item = blockIdx.x * kThreads + threadIdx.x;
  const int row = static_cast<int>(item / parts / heads);
  const bool inside = row < args.rows;
  const int head = static_cast<int>(item / parts % heads);  // Of q, then k, then v.
  const int j = static_cast<int>(item % parts) * kPairs;
  const bool is_q = head < args.q_heads, is_k = !is_q && head < args.q_heads + kv_heads;

  // What no kernel writes, while earlier ones may still run.
  int64_t block = 0;
  int position = 0;
  float cos[kPairs] = {}, sin[kPairs] = {};
  if (inside) {
    position = args.positions[row];
    if (!is_q) block = args.blocks[args.tables[row] + position / kKvBlock];
    if (is_q || is_k) {
      LoadPairs<kPairs>(args.cos + static_cast<int64_t>(position) * half + j, cos);
      LoadPairs<kPairs>(args.sin + static_cast<int64_t>(position) * half + j, sin);
    }
  }
  GridDependencyWait();
  GridDependencyLaunch();
  if (!inside) return;

  const int kv_head = (head - args.q_heads) % kv_heads;
  T* const q = args.q + row * args.q_stride + head * width + j;
  const T* from = is_q   ? q
                  : is_k ? args.k + row * args.k_stride + kv_head * width + j
                         : args.v + row * args.v_stride + kv_head * width + j;
  float a[kPairs], b[kPairs];
  LoadPairs<kPairs>(from, a);
  LoadPairs<kPairs>(from + half, b);
  if (is_q || is_k) {
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const float low = a[i];
      a[i] = fmaf(low, cos[i], -(b[i] * sin[i]));
      b[i] = fmaf(b[i], cos[i], low * sin[i]);
    }
  }
  if (is_q) {
    StorePairs<kPairs>(q, a);
    StorePairs<kPairs>(q + half, b);
    return;
  }
  const int64_t place = (block * kv_heads + kv_head) * kKvBlock + position % kKvBlock;
  Kept* to = static_cast<Kept*>(is_k ? args.kv.keys : args.kv.values) + place * width + j;
  StorePairs<kPairs>(to, a);
  StorePairs<kPairs>(to + half, b);
}

template <typename T, typename Kept>
void LaunchRope(const RopeArgs<T>& args, cudaStream_t stream) {
  const int half = args.kv.head_width / 2;
  const auto whole = [&](const void* data, int64_t stride) {
    return WholeOctets(data, sizeof(T), stride, half);
  };
  const auto aligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; };
  const bool octets = whole(args.q, args.q_stride) && whole(args.k, args.k_stride) &&
                      whole(args.v, args.v_stride) && aligned(args.cos) && aligned(args.sin) &&
                      aligned(args.kv.keys) && aligned(args.kv.values);
  const int64_t items =
      int64_t{args.rows} * (args.q_heads + 2 * args.kv.kv_heads) * (octets ? half / kOctet : half);
  CHECK(items < int64_t{1} << 31);
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>((items + kThreads - 1) / kThreads)),
                          .block = dim3(kThreads),
                          .stream = stream,
                          .early = true};
  if (octets) {
    Launch(RopeStoreKernel<kOctet, T, Kept>, shape, args);
  } else {
    Launch(RopeStoreKernel<1, T, Kept>, shape, args);
  }
}

template <typename T>
RopeArgs<T> ArgsOf(const BatchView& batch, Tensor q, Tensor k, Tensor v, const KvView& kv) {
  return {.q = static_cast<T*>(q.data),
          .k = static_cast<const T*>(k.data),
          .v = static_cast<const T*>(v.data),
          .q_stride = q.stride,
          .k_stride = k.stride,
          .v_stride = v.stride,
          .cos = nullptr,
          .sin = nullptr,
          .positions = batch.positions,
          .tables = batch.tables,
          .blocks = batch.blocks,
          .kv = kv,
          .rows = batch.rows,
          .q_heads = static_cast<int>(q.cols / kv.head_width)};
}

}  // namespace

void RopeStore(const BatchView& batch, Tensor q, Tensor k, Tensor v, const float* cos,
               const float* sin, const KvView& kv, cudaStream_t stream) {
  CHECK(q.dtype == k.dtype && q.dtype == v.dtype && q.dtype != DType::kF16);
  CHECK(kv.head_width % 2 == 0 && q.cols % kv.head_width == 0);
  CHECK(k.cols == int64_t{kv.kv_heads} * kv.head_width && v.cols == k.cols);
  CHECK(q.rows == batch.rows && k.rows == batch.rows && v.rows == batch.rows);
  if (batch.rows == 0) return;
  if (q.dtype == DType::kF32) {
    RopeArgs<float> args = ArgsOf<float>(batch, q, k, v, kv);
    args.cos = cos, args.sin = sin;
    if (kv.stored == Stored::kF32) return LaunchRope<float, float>(args, stream);
    if (kv.stored == Stored::kBF16) return LaunchRope<float, __nv_bfloat16>(args, stream);
    CHECK(kv.stored == Stored::kE4M3);
    LaunchRope<float, __nv_fp8_e4m3>(args, stream);
  } else {
    RopeArgs<__nv_bfloat16> args = ArgsOf<__nv_bfloat16>(batch, q, k, v, kv);
    args.cos = cos, args.sin = sin;
    if (kv.stored == Stored::kBF16) return LaunchRope<__nv_bfloat16, __nv_bfloat16>(args, stream);
    CHECK(kv.stored == Stored::kE4M3);
    LaunchRope<__nv_bfloat16, __nv_fp8_e4m3>(args, stream);
  }
}

}  // namespace conclave::worker::cuda
