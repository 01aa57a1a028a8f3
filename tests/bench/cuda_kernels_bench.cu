// How near the kernels for few rows come to the device's memory: GB/s of the weight's bytes, beside
// a copy and a plain read in the same run. `--variants` also tries shapes of the kernel that the
// product does not use.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <vector>

#include "worker/backend/cuda/linear_rows.h"
#include "worker/backend/cuda/platform.h"
#include "worker/backend/cuda/row_launch.cuh"

namespace conclave::worker::cuda {
namespace {

constexpr int64_t kPool = int64_t{8} << 30;      // Bytes of weights.
constexpr int64_t kRotate = int64_t{384} << 20;  // Bytes that one measurement reads at least.
constexpr int kMostRows = 64;

struct Shape {
  const char* name;
  int64_t out, in;
  bool gate_up = false;
};
constexpr Shape kShapes[] = {
    {"8B qkv", 6144, 4096},
    {"8B o", 4096, 4096},
    {"8B gate_up", 28672, 4096, true},
    {"8B down", 4096, 14336},
    {"8B head", 128256, 4096},
    {"1B qkv", 3072, 2048},
    {"1B o", 2048, 2048},
    {"1B gate_up", 16384, 2048, true},
    {"1B down", 2048, 8192},
    {"1B head", 128256, 2048},
};
constexpr const char* kNames[] = {"f32", "bf16", "e4m3", "int4"};

void Must(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

__global__ void Fill(uint32_t* words, int64_t count, uint32_t keep, uint32_t add) {
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * blockDim.x) {
    uint32_t bits = static_cast<uint32_t>(i) * 2654435761U;
    bits = (bits ^ bits >> 15) * 2246822519U;
    words[i] = ((bits ^ bits >> 13) & keep) | add;
  }
}
__global__ void ReadOnly(const uint4* from, int64_t count, uint32_t* out) {
  uint32_t all = 0;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  for (; i + 7 * step < count; i += 8 * step) {
    uint4 v[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) v[j] = LoadOnce16(from + i + j * step);
#pragma unroll
    for (int j = 0; j < 8; ++j) all ^= v[j].x ^ v[j].y ^ v[j].z ^ v[j].w;
  }
  if (all == 0x12345678U) *out = all;
}

// Stands for the kernels between products, which leave the memory idle.
__global__ void Pause(int64_t cycles) {
  GridDependencyLaunch();
  GridDependencyWait();
  const int64_t begin = clock64();
  while (clock64() - begin < cycles) {
  }
}

class Bench {
 public:
  Bench() {
    Must(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "stream");
    Must(cudaEventCreate(&begin_), "event");
    Must(cudaEventCreate(&end_), "event");
    Must(cudaMalloc(&pool_, kPool), "weights");
    Must(cudaMalloc(&x_, kMostRows * 14336 * 2), "x");
    Must(cudaMalloc(&out_, kMostRows * 128256 * 4), "out");
    Must(cudaMalloc(&scales_, int64_t{128256} * 32 * 4), "scales");
    // Pairs of bf16 near 1, of either sign; as bytes, e4m3 numbers and nibbles of all kinds.
    Fill<<<2048, 256, 0, stream_>>>(static_cast<uint32_t*>(pool_), kPool / 4, 0x807f807fU,
                                    0x3f003f00U);
    Fill<<<64, 256, 0, stream_>>>(static_cast<uint32_t*>(x_), kMostRows * 14336 / 2, 0x807f807fU,
                                  0x3c003c00U);
    Fill<<<64, 256, 0, stream_>>>(static_cast<uint32_t*>(scales_), int64_t{128256} * 32,
                                  0x007fffffU, 0x3c000000U);
    Must(cudaStreamSynchronize(stream_), "fill");
  }

  // Seconds of one of `times` launches, from a graph: no host in between. The median of five.
  double Seconds(int times, const std::function<void(int)>& launch) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t run = nullptr;
    Must(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
    for (int i = 0; i < times; ++i) launch(i);
    Must(cudaGetLastError(), "launch");
    Must(cudaStreamEndCapture(stream_, &graph), "end of capture");
    Must(cudaGraphInstantiate(&run, graph, 0), "graph");
    std::vector<float> found;
    for (int i = 0; i < 6; ++i) {
      Must(cudaEventRecord(begin_, stream_), "event");
      Must(cudaGraphLaunch(run, stream_), "graph launch");
      Must(cudaEventRecord(end_, stream_), "event");
      Must(cudaEventSynchronize(end_), "kernel");
      float milliseconds = 0;
      Must(cudaEventElapsedTime(&milliseconds, begin_, end_), "elapsed");
      if (i > 0) found.push_back(milliseconds);  // The first warms up.
    }
    Must(cudaGraphExecDestroy(run), "graph");
    Must(cudaGraphDestroy(graph), "graph");
    std::sort(found.begin(), found.end());
    return found[found.size() / 2] / 1e3 / times;
  }

  void Ceilings() {
    const int64_t half = kPool / 2;
    char* const to = static_cast<char*>(pool_) + half;
    // Not from a graph, whose copies are slower.
    float copy = 0;  // Milliseconds; the second is measured.
    for (int i = 0; i < 2; ++i) {
      Must(cudaEventRecord(begin_, stream_), "event");
      Must(cudaMemcpyAsync(to, pool_, half, cudaMemcpyDeviceToDevice, stream_), "copy");
      Must(cudaEventRecord(end_, stream_), "event");
      Must(cudaEventSynchronize(end_), "copy");
      Must(cudaEventElapsedTime(&copy, begin_, end_), "elapsed");
    }
    copy_ = 2.0 * static_cast<double>(half) / copy / 1e6;
    const double read = Seconds(4, [&](int) {
      ReadOnly<<<132 * 8, 256, 0, stream_>>>(static_cast<const uint4*>(pool_), kPool / 16,
                                             static_cast<uint32_t*>(out_));
    });
    read_ = static_cast<double>(kPool) / read / 1e9;
    std::printf("copy %.0f GB/s (read + written), read only %.0f GB/s\n", copy_, read_);
  }

  // What one product takes of the pool.
  static int64_t BytesOfWeight(const Shape& shape, Stored stored) {
    const int64_t numbers = shape.out * shape.in;
    if (stored == Stored::kBF16) return numbers * 2;
    if (stored == Stored::kE4M3) return numbers + shape.out * 4;
    return numbers / 2 + numbers / kInt4Group * 4;
  }
  static int Times(int64_t bytes) {
    return static_cast<int>(std::clamp<int64_t>(kRotate / bytes, 6, 200));
  }
  // The i-th copy of a weight, in all of the pool or in one quarter of it.
  Matrix Weight(const Shape& shape, Stored stored, int i, int quarter = -1) const {
    const int64_t bytes = (BytesOfWeight(shape, stored) + 255) / 256 * 256;
    const int64_t copies = (quarter < 0 ? kPool : kPool / 4) / bytes;
    const int64_t first = quarter < 0 ? 0 : quarter * (kPool / 4);
    return {static_cast<char*>(pool_) + first + i % copies * bytes,
            stored,
            shape.in,
            shape.out,
            shape.in,
            stored == Stored::kBF16 ? nullptr : static_cast<const float*>(scales_)};
  }

  // Lines: the shape, then a cell for each measurement: microseconds, GB/s of the weight's bytes.
  static void Begin(const Shape& shape, Stored stored) {
    std::printf("\n%-10s %s", shape.name, kNames[static_cast<int>(stored)]);
    std::fflush(stdout);
  }
  double Rate(const Shape& shape, Stored stored, double seconds) const {
    return static_cast<double>(BytesOfWeight(shape, stored)) / seconds / 1e9;
  }

  // One product, as the device launches it.
  void LaunchOne(const Shape& shape, const Matrix& w, int rows) {
    const Tensor x = Tensor::Dense(x_, DType::kBF16, rows, shape.in);
    if (shape.gate_up) {
      GateUpRows({x, w, Tensor::Dense(out_, DType::kBF16, rows, shape.out / 2), nullptr}, stream_);
    } else {
      LinearRows({x, w, Tensor::Dense(out_, DType::kF32, rows, shape.out), nullptr, false},
                 stream_);
    }
  }
  void Products(const Shape& shape, Stored stored) {
    Begin(shape, stored);
    for (const int rows : {1, 8, 16, 32, 64}) {
      const double seconds = Seconds(Times(BytesOfWeight(shape, stored)), [&](int i) {
        LaunchOne(shape, Weight(shape, stored, i), rows);
      });
      const double rate = Rate(shape, stored, seconds);
      std::printf(" | N=%d %.1f us %.0f %.0f%%", rows, seconds * 1e6, rate, 100 * rate / copy_);
    }
  }

  // The four products of a layer after one another, as the device launches them, with pauses
  // between them or none: seconds.
  double Layer(const Shape* shapes, Stored stored, int rows, int64_t pause) {
    const auto pause_for = [&](int64_t cycles) {
      LaunchShape alone = {dim3(kMultiprocessors), dim3(128), 0, stream_, true};
      if (cycles > 0) Launch(Pause, alone, cycles);
    };
    return Seconds(10, [&](int i) {
      for (int s = 0; s < 4; ++s) {
        pause_for(s == 1 ? 2 * pause : s == 3 ? 0 : pause);
        LaunchOne(shapes[s], Weight(shapes[s], stored, i, s), rows);
      }
    });
  }
  // `shapes`: those of a model, the first four of a layer.
  void Layers(const char* model, const Shape* shapes) {
    constexpr int64_t kPause = 4000;  // Cycles.
    const double pauses = Seconds(10, [&](int) {
      LaunchShape alone = {dim3(kMultiprocessors), dim3(128), 0, stream_, true};
      for (const int64_t cycles : {kPause, 2 * kPause, kPause}) Launch(Pause, alone, cycles);
    });
    std::printf("\n%s layer; pauses alone %.2f us", model, pauses * 1e6);
    for (const Stored stored : {Stored::kBF16, Stored::kE4M3, Stored::kInt4}) {
      std::printf("\n%s layer %s", model, kNames[static_cast<int>(stored)]);
      double bytes = 0;
      for (int s = 0; s < 4; ++s) bytes += static_cast<double>(BytesOfWeight(shapes[s], stored));
      for (const int rows : {1, 8, 16}) {
        const double dense = Layer(shapes, stored, rows, 0);
        const double paused = Layer(shapes, stored, rows, kPause);
        std::printf(" | N=%d %.2f us %.0f %.0f%%, with pauses %.2f us", rows, dense * 1e6,
                    bytes / dense / 1e9, bytes / dense / 1e7 / copy_, paused * 1e6);
      }
    }
    std::printf("\n");
  }

  template <typename Chunk, int kTokenTiles, int kRowTiles, int kStages>
  void Variant(const Shape& shape, Stored stored, int rows) {
    for (const int warps : {4, 8, 16}) {
      const size_t memory =
          ProductMemory<kTokenTiles, kRowTiles, kStages>::Bytes(warps, kStages * warps);
      if (warps > MostProductWarps(kRowTiles) || memory > 227 * 1024) continue;
      const double seconds = Seconds(Times(BytesOfWeight(shape, stored)), [&](int i) {
        RowProduct p = Product(shape, Weight(shape, stored, i), rows);
        p.outs = static_cast<int32_t>(shape.out);
        LaunchTiles<Chunk, kTokenTiles, kRowTiles, kStages, false>(p, warps, stream_);
      });
      std::printf(" w%dr%ds%d %.0f", warps, kRowTiles * 16, kStages, Rate(shape, stored, seconds));
    }
  }
  template <typename Chunk, int kTokenTiles>
  void WideVariants(const Shape& shape, Stored stored, int rows) {
    Begin(shape, stored);
    std::printf(" N=%d:", rows);
    Variant<Chunk, kTokenTiles, 1, 4>(shape, stored, rows);
    Variant<Chunk, kTokenTiles, 2, 3>(shape, stored, rows);
    Variant<Chunk, kTokenTiles, 4, 2>(shape, stored, rows);
  }
  template <typename Chunk, int kTokenTiles>
  void Variants(const Shape& shape, Stored stored, int rows) {
    Begin(shape, stored);
    std::printf(" N=%d:", rows);
    Variant<Chunk, kTokenTiles, 1, 3>(shape, stored, rows);
    Variant<Chunk, kTokenTiles, 1, 4>(shape, stored, rows);
    Variant<Chunk, kTokenTiles, 2, 3>(shape, stored, rows);
    Variant<Chunk, kTokenTiles, 2, 4>(shape, stored, rows);
  }

 private:
  RowProduct Product(const Shape& shape, const Matrix& w, int rows) const {
    RowProduct p;
    p.w = static_cast<const unsigned char*>(w.data);
    p.row_bytes = w.stored == Stored::kBF16 ? shape.in * 2 : shape.in;
    p.in = static_cast<int32_t>(shape.in);
    p.outs = static_cast<int32_t>(shape.gate_up ? shape.out / 2 : shape.out);
    p.scales = w.scales;
    p.x = static_cast<const __nv_bfloat16*>(x_);
    p.x_stride = shape.in;
    p.rows = rows;
    p.out = out_;
    p.out_stride = shape.out;
    return p;
  }

  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
  void *pool_ = nullptr, *x_ = nullptr, *out_ = nullptr, *scales_ = nullptr;
  double copy_ = 1, read_ = 1;
};

int Main(bool variants) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("no CUDA device\n");
    return 0;
  }
  cudaDeviceProp device;
  Must(cudaGetDeviceProperties(&device, 0), "properties");
  std::printf("%s: %d multiprocessors, %.0f MB of L2\n", device.name, device.multiProcessorCount,
              device.l2CacheSize / 1e6);
  Bench bench;
  bench.Ceilings();
  bench.Layers("8B", kShapes);
  bench.Layers("1B", kShapes + 5);
  for (const Stored stored : {Stored::kBF16, Stored::kE4M3, Stored::kInt4}) {
    for (const Shape& shape : kShapes) bench.Products(shape, stored);
  }
  if (!variants) return 0;
  for (const Shape& shape : kShapes) {
    bench.Variants<Bf16Chunk, 1>(shape, Stored::kBF16, 1);
    bench.Variants<Bf16Chunk, 1>(shape, Stored::kBF16, 8);
    bench.Variants<Bf16Chunk, 2>(shape, Stored::kBF16, 16);
    bench.WideVariants<Bf16Chunk, 4>(shape, Stored::kBF16, 32);
    bench.WideVariants<Bf16Chunk, 8>(shape, Stored::kBF16, 64);
    bench.Variants<E4m3Chunk, 1>(shape, Stored::kE4M3, 1);
    bench.Variants<E4m3Chunk, 2>(shape, Stored::kE4M3, 16);
  }
  return 0;
}

}  // namespace
}  // namespace conclave::worker::cuda

int main(int argc, char** argv) {
  return conclave::worker::cuda::Main(argc > 1 && std::strcmp(argv[1], "--variants") == 0);
}
