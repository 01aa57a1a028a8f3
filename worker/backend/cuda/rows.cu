#include "common/check.h"
#include "worker/backend/cuda/octets.h"
#include "worker/backend/cuda/rows.h"

// One thread for each octet of each row; nothing meets but what stands in one place. Bound by
// memory: every operand is read once and written once.
namespace conclave::worker::cuda {
namespace {

constexpr int kThreads = 128;

// Which octet of which row a thread has.
struct Place {
  int row, at;
};
__device__ Place PlaceOf(unsigned octets) {
  const unsigned i = blockIdx.x * kThreads + threadIdx.x;
  return {static_cast<int>(i / octets), static_cast<int>(i % octets) * kOctet};
}
unsigned OctetsOf(int64_t width) { return static_cast<unsigned>((width + kOctet - 1) / kOctet); }

LaunchShape ShapeOf(int64_t items, cudaStream_t stream) {
  CHECK(items < int64_t{1} << 31);
  return {.grid = dim3(static_cast<unsigned>((items + kThreads - 1) / kThreads)),
          .block = dim3(kThreads),
          .stream = stream,
          .early = true};
}
LaunchShape OctetShape(const Tensor& x, cudaStream_t stream) {
  return ShapeOf(x.rows * OctetsOf(x.cols), stream);
}

bool Whole(const Tensor& x) {
  return WholeOctets(x.data, static_cast<int64_t>(BytesOf(x.dtype)), x.stride, x.cols);
}
bool Whole(const float* bias, int64_t width) {
  return WholeOctets(bias, sizeof(float), width, width);
}

// x += y and bias; each may be null.
template <typename X, typename Y>
struct AddArgs {
  X* x;
  const Y* y;
  const float* bias;
  int64_t x_stride, y_stride;
  int rows, width;
  unsigned octets;
};

template <bool kWhole, typename X, typename Y>
__global__ void __launch_bounds__(kThreads) AddKernel(AddArgs<X, Y> args) {
  GridDependencyWait();
  GridDependencyLaunch();
  const auto [row, at] = PlaceOf(args.octets);
  if (row >= args.rows) return;
  X* x = args.x + row * args.x_stride;
  float sum[kOctet], more[kOctet];
  LoadOctet<kWhole>(x, at, args.width, sum);
  if (args.y != nullptr) {
    LoadOctet<kWhole>(args.y + row * args.y_stride, at, args.width, more);
#pragma unroll
    for (int i = 0; i < kOctet; ++i) sum[i] += more[i];
  }
  if (args.bias != nullptr) {
    LoadOctet<kWhole>(args.bias, at, args.width, more);
#pragma unroll
    for (int i = 0; i < kOctet; ++i) sum[i] += more[i];
  }
  StoreOctet<kWhole>(x, at, args.width, sum);
}

template <typename X, typename Y>
void LaunchAdd(Tensor x, Tensor y, const float* bias, cudaStream_t stream) {
  const AddArgs<X, Y> args{.x = static_cast<X*>(x.data),
                           .y = static_cast<const Y*>(y.data),
                           .bias = bias,
                           .x_stride = x.stride,
                           .y_stride = y.stride,
                           .rows = static_cast<int>(x.rows),
                           .width = static_cast<int>(x.cols),
                           .octets = OctetsOf(x.cols)};
  if (Whole(x) && (y.data == nullptr || Whole(y)) && Whole(bias, x.cols)) {
    Launch(AddKernel<true, X, Y>, OctetShape(x, stream), args);
  } else {
    Launch(AddKernel<false, X, Y>, OctetShape(x, stream), args);
  }
}

template <typename T>
struct PairArgs {
  const T* from;
  T* to;
  int64_t from_stride, to_stride;
  int rows, width;
  unsigned octets;
};

template <bool kWhole, typename T>
__global__ void __launch_bounds__(kThreads) SiluMulKernel(PairArgs<T> args) {
  GridDependencyWait();
  GridDependencyLaunch();
  const auto [row, at] = PlaceOf(args.octets);
  if (row >= args.rows) return;
  const T* gates = args.from + row * args.from_stride;
  float gate[kOctet], up[kOctet];
  LoadOctet<kWhole>(gates, at, args.width, gate);
  LoadOctet<kWhole>(gates + args.width, at, args.width, up);
#pragma unroll
  for (int i = 0; i < kOctet; ++i) gate[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
  StoreOctet<kWhole>(args.to + row * args.to_stride, at, args.width, gate);
}

template <typename T>
void LaunchSiluMul(Tensor both, Tensor out, cudaStream_t stream) {
  const PairArgs<T> args{.from = static_cast<const T*>(both.data),
                         .to = static_cast<T*>(out.data),
                         .from_stride = both.stride,
                         .to_stride = out.stride,
                         .rows = static_cast<int>(out.rows),
                         .width = static_cast<int>(out.cols),
                         .octets = OctetsOf(out.cols)};
  if (Whole(out) && Whole(both.Columns(0, out.cols)) && Whole(both.Columns(out.cols, out.cols))) {
    Launch(SiluMulKernel<true, T>, OctetShape(out, stream), args);
  } else {
    Launch(SiluMulKernel<false, T>, OctetShape(out, stream), args);
  }
}

template <bool kWhole, typename T>
__global__ void __launch_bounds__(kThreads) SelectKernel(PairArgs<T> args, const int32_t* chosen) {
  GridDependencyWait();
  GridDependencyLaunch();
  const auto [row, at] = PlaceOf(args.octets);
  if (row >= args.rows) return;
  float v[kOctet];
  LoadOctet<kWhole>(args.from + chosen[row] * args.from_stride, at, args.width, v);
  StoreOctet<kWhole>(args.to + row * args.to_stride, at, args.width, v);
}

template <typename T>
void LaunchSelect(const int32_t* chosen, Tensor x, Tensor out, cudaStream_t stream) {
  const PairArgs<T> args{.from = static_cast<const T*>(x.data),
                         .to = static_cast<T*>(out.data),
                         .from_stride = x.stride,
                         .to_stride = out.stride,
                         .rows = static_cast<int>(out.rows),
                         .width = static_cast<int>(out.cols),
                         .octets = OctetsOf(out.cols)};
  if (Whole(x) && Whole(out)) {
    Launch(SelectKernel<true, T>, OctetShape(out, stream), args, chosen);
  } else {
    Launch(SelectKernel<false, T>, OctetShape(out, stream), args, chosen);
  }
}

// `Unit`: the widest that every piece's place and size allow.
template <typename Unit>
struct CopyArgs {
  Unit *keys, *values;
  int64_t from, to, layer_stride, head_stride;
  int count;  // Of each head.
};

// blockIdx.y: heads of keys, then of values; blockIdx.z: layers.
template <typename Unit>
__global__ void __launch_bounds__(kThreads) CopyBlockKernel(CopyArgs<Unit> args, int kv_heads) {
  GridDependencyWait();
  GridDependencyLaunch();
  const int i = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (i >= args.count) return;
  const int head = static_cast<int>(blockIdx.y) % kv_heads;
  Unit* pool = static_cast<int>(blockIdx.y) < kv_heads ? args.keys : args.values;
  Unit* place = pool + blockIdx.z * args.layer_stride + head * args.head_stride + i;
  place[args.to] = place[args.from];
}

template <typename Unit>
void LaunchCopyBlock(const KvView& kv, int64_t element_bytes, int64_t layer_stride,
                     BlockCopyArgs copy, LaunchShape shape) {
  const auto units = [&](int64_t elements) {
    return elements * element_bytes / static_cast<int64_t>(sizeof(Unit));
  };
  const CopyArgs<Unit> args{.keys = static_cast<Unit*>(kv.keys),
                            .values = static_cast<Unit*>(kv.values),
                            .from = units(copy.from * kv.block_stride()),
                            .to = units(copy.to * kv.block_stride()),
                            .layer_stride = units(layer_stride),
                            .head_stride = units(int64_t{kKvBlock} * kv.head_width),
                            .count = static_cast<int>(units(copy.tokens * kv.head_width))};
  shape.grid.x = static_cast<unsigned>((args.count + kThreads - 1) / kThreads);
  Launch(CopyBlockKernel<Unit>, shape, args, kv.kv_heads);
}

__global__ void __launch_bounds__(kThreads)
    SumRanksKernel(const float* parts, int size, int64_t count, float* x) {
  GridDependencyWait();
  GridDependencyLaunch();
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= count) return;
  float sum = parts[i];
  for (int rank = 1; rank < size; ++rank) sum += parts[rank * count + i];
  x[i] = sum;
}

}  // namespace

void Add(Tensor x, Tensor y, const float* bias, cudaStream_t stream) {
  CHECK(x.dtype == DType::kF32 && y.dtype != DType::kF16);
  CHECK(x.rows == y.rows && x.cols == y.cols);
  if (x.rows == 0) return;
  if (y.dtype == DType::kF32) {
    LaunchAdd<float, float>(x, y, bias, stream);
  } else {
    LaunchAdd<float, __nv_bfloat16>(x, y, bias, stream);
  }
}

void AddBias(Tensor x, const float* bias, cudaStream_t stream) {
  CHECK(x.dtype != DType::kF16);
  if (x.rows == 0) return;
  if (x.dtype == DType::kF32) {
    LaunchAdd<float, float>(x, Tensor{}, bias, stream);
  } else {
    LaunchAdd<__nv_bfloat16, __nv_bfloat16>(x, Tensor{}, bias, stream);
  }
}

void SiluMul(Tensor both, Tensor out, cudaStream_t stream) {
  CHECK(both.dtype == out.dtype && both.rows == out.rows && both.cols == 2 * out.cols);
  CHECK(out.dtype != DType::kF16);
  if (out.rows == 0) return;
  if (out.dtype == DType::kF32) {
    LaunchSiluMul<float>(both, out, stream);
  } else {
    LaunchSiluMul<__nv_bfloat16>(both, out, stream);
  }
}

void SelectRows(const BatchView& batch, Tensor x, Tensor out, cudaStream_t stream) {
  CHECK(x.dtype == out.dtype && x.cols == out.cols && out.rows == batch.logits_rows);
  CHECK(out.dtype != DType::kF16);
  if (out.rows == 0) return;
  if (out.dtype == DType::kF32) {
    LaunchSelect<float>(batch.logits, x, out, stream);
  } else {
    LaunchSelect<__nv_bfloat16>(batch.logits, x, out, stream);
  }
}

void CopyBlock(const KvView& first_layer, int layers, int64_t layer_stride, BlockCopyArgs copy,
               cudaStream_t stream) {
  CHECK(first_layer.stored != Stored::kInt4 && copy.tokens <= kKvBlock);
  if (copy.tokens == 0) return;
  const int64_t bytes = first_layer.stored == Stored::kF32    ? 4
                        : first_layer.stored == Stored::kBF16 ? 2
                                                              : 1;
  const LaunchShape shape{.grid = dim3(1, static_cast<unsigned>(2 * first_layer.kv_heads),
                                       static_cast<unsigned>(layers)),
                          .block = dim3(kThreads),
                          .stream = stream,
                          .early = true};
  const auto aligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; };
  if (aligned(first_layer.keys) && aligned(first_layer.values) && layer_stride * bytes % 16 == 0 &&
      copy.tokens * first_layer.head_width * bytes % 16 == 0) {
    LaunchCopyBlock<uint4>(first_layer, bytes, layer_stride, copy, shape);
  } else {
    LaunchCopyBlock<uint8_t>(first_layer, bytes, layer_stride, copy, shape);
  }
}

void SumRanks(const float* parts, int size, int64_t count, float* x, cudaStream_t stream) {
  if (count == 0) return;
  Launch(SumRanksKernel, ShapeOf(count, stream), parts, size, count, x);
}

}  // namespace conclave::worker::cuda
