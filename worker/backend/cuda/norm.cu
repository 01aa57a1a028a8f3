#include "common/check.h"
#include "worker/backend/cuda/octets.h"
#include "worker/backend/cuda/row_norm.cuh"
#include "worker/backend/cuda/rows.h"
#include "worker/backend/cuda/warp.h"

// out = x * rsqrt(mean(x^2) + eps) * gain, for every head of every row.
// Narrow heads (of q and k): one warp each, one octet a lane. Wide ones (the residual): one block
// each, octets dealt out in turn, as row_norm.cuh says. Bound by latency for few rows (so the gain,
// which no kernel writes, is read before the wait), by memory for many: x is read once and kept in
// registers.
namespace conclave::worker::cuda {
namespace {

constexpr int kNarrow = kWarp * kOctet;  // Widest head of one warp.
constexpr int kNarrowHeads = 4;          // Heads of one block.
constexpr int kWideThreads = kNormThreads;
constexpr int kMostSteps = 8;  // Octets of one thread: rows up to 16,384 wide.

template <typename X, typename Out>
struct NormArgs {
  const X* x;
  Out* out;
  const float* gain;
  int64_t x_stride, out_stride, units;  // A unit is one head of one row.
  int heads, width;
  float eps;

  __device__ const X* From(int64_t unit) const {
    return x + unit / heads * x_stride + unit % heads * width;
  }
  __device__ Out* To(int64_t unit) const {
    return out + unit / heads * out_stride + unit % heads * width;
  }
};

template <bool kWhole, typename X, typename Out>
__global__ void __launch_bounds__(kNarrowHeads* kWarp) NormNarrow(NormArgs<X, Out> args) {
  const int at = static_cast<int>(threadIdx.x) % kWarp * kOctet;
  float gain[kOctet], v[kOctet];
  LoadOctet<kWhole>(args.gain, at, args.width, gain);
  GridDependencyWait();
  GridDependencyLaunch();
  const int64_t unit = static_cast<int64_t>(blockIdx.x) * kNarrowHeads + threadIdx.x / kWarp;
  if (unit >= args.units) return;

  LoadOctet<kWhole>(args.From(unit), at, args.width, v);
  const float sum = AddSquares(v, 0);
  const float scale = rsqrtf(WarpSum(sum) / static_cast<float>(args.width) + args.eps);
  ScaleOctet(scale, gain, v);
  StoreOctet<kWhole>(args.To(unit), at, args.width, v);
}

// kSteps * kWideThreads octets cover the width.
template <bool kWhole, int kSteps, typename X, typename Out>
__global__ void __launch_bounds__(kWideThreads) NormWide(NormArgs<X, Out> args) {
  __shared__ float sums[kNormWarps];
  const int first = static_cast<int>(threadIdx.x) * kOctet;
  float gain[kSteps][kOctet], v[kSteps][kOctet];
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    LoadOctet<kWhole>(args.gain, first + s * kWideThreads * kOctet, args.width, gain[s]);
  }
  GridDependencyWait();
  GridDependencyLaunch();
  const X* from = args.From(blockIdx.x);
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    LoadOctet<kWhole>(from, first + s * kWideThreads * kOctet, args.width, v[s]);
  }

  float sum = 0;
#pragma unroll
  for (int s = 0; s < kSteps; ++s) sum = AddSquares(v[s], sum);
  sum = WarpSum(sum);
  if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = sum;
  __syncthreads();
  const float scale = NormScale(sums, args.width, args.eps);

  Out* to = args.To(blockIdx.x);
#pragma unroll
  for (int s = 0; s < kSteps; ++s) {
    ScaleOctet(scale, gain[s], v[s]);
    StoreOctet<kWhole>(to, first + s * kWideThreads * kOctet, args.width, v[s]);
  }
}

template <bool kWhole, typename X, typename Out>
void LaunchNorm(const NormArgs<X, Out>& args, cudaStream_t stream) {
  const bool narrow = args.width <= kNarrow;
  const int64_t blocks = narrow ? (args.units + kNarrowHeads - 1) / kNarrowHeads : args.units;
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(blocks)),
                          .block = dim3(narrow ? kNarrowHeads * kWarp : kWideThreads),
                          .stream = stream,
                          .early = true};
  if (narrow) {
    Launch(NormNarrow<kWhole, X, Out>, shape, args);
  } else if (kWhole && args.width <= 2 * kWideThreads * kOctet) {
    Launch(NormWide<kWhole, 2, X, Out>, shape, args);
  } else {
    Launch(NormWide<kWhole, kMostSteps, X, Out>, shape, args);
  }
}

template <typename X, typename Out>
void Norm(Tensor x, int heads, const float* gain, float eps, Tensor out, cudaStream_t stream) {
  const int width = static_cast<int>(x.cols / heads);
  const NormArgs<X, Out> args{.x = static_cast<const X*>(x.data),
                              .out = static_cast<Out*>(out.data),
                              .gain = gain,
                              .x_stride = x.stride,
                              .out_stride = out.stride,
                              .units = x.rows * heads,
                              .heads = heads,
                              .width = width,
                              .eps = eps};
  const bool whole = WholeOctets(x.data, sizeof(X), x.stride, width) &&
                     WholeOctets(out.data, sizeof(Out), out.stride, width) &&
                     WholeOctets(gain, sizeof(float), width, width);
  if (whole) {
    LaunchNorm<true>(args, stream);
  } else {
    LaunchNorm<false>(args, stream);
  }
}

}  // namespace

void RmsNorm(Tensor x, int heads, const float* gain, float eps, Tensor out, cudaStream_t stream) {
  CHECK(heads > 0 && x.cols % heads == 0 && x.rows == out.rows && x.cols == out.cols);
  CHECK(x.dtype != DType::kF16 && out.dtype != DType::kF16);
  CHECK(x.cols / heads <= int64_t{kMostSteps} * kWideThreads * kOctet);
  if (x.rows == 0 || x.cols == 0) return;
  if (x.dtype == DType::kF32 && out.dtype == DType::kF32) {
    Norm<float, float>(x, heads, gain, eps, out, stream);
  } else if (x.dtype == DType::kF32) {
    Norm<float, __nv_bfloat16>(x, heads, gain, eps, out, stream);
  } else if (out.dtype == DType::kF32) {
    Norm<__nv_bfloat16, float>(x, heads, gain, eps, out, stream);
  } else {
    Norm<__nv_bfloat16, __nv_bfloat16>(x, heads, gain, eps, out, stream);
  }
}

}  // namespace conclave::worker::cuda
