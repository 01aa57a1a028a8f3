// What the small operations and the draws take on this GPU: one call, in a graph of 20 of them. A
// table to stdout.
#include <cuda_runtime.h>
#include <fmt/core.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "worker/backend/cuda/draw.h"
#include "worker/backend/cuda/rows.h"

namespace conclave::worker::cuda {
namespace {

constexpr int kWidth = 4096, kFfn = 14336, kHeads = 32, kKvHeads = 8, kHeadWidth = 128;
constexpr int kVocab = 128256, kMostRows = 4096, kCalls = 20;

void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  fmt::print(stderr, "cuda_rows_bench: {}: {}\n", what, cudaGetErrorString(error));
  std::exit(1);
}

// Device memory for the life of the program.
template <typename T>
T* Allocate(int64_t count) {
  void* memory = nullptr;
  Check(cudaMalloc(&memory, static_cast<size_t>(count) * sizeof(T)), "cudaMalloc");
  Check(cudaMemset(memory, 0, static_cast<size_t>(count) * sizeof(T)), "cudaMemset");
  return static_cast<T*>(memory);
}
template <typename T>
T* Upload(const std::vector<T>& values) {
  T* memory = Allocate<T>(static_cast<int64_t>(values.size()));
  Check(cudaMemcpy(memory, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice),
        "cudaMemcpy");
  return memory;
}

class Bench {
 public:
  Bench() {
    Check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
    Check(cudaEventCreate(&begin_), "cudaEventCreate");
    Check(cudaEventCreate(&end_), "cudaEventCreate");
    cudaDeviceProp properties;
    Check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
    fmt::print("{}\n{:<28} {:>5} {:>9} {:>8}\n", properties.name, "operation", "rows", "us",
               "GB/s");
  }

  void MeasureRows();
  void MeasureDraws();

 private:
  double Microseconds(const std::function<void()>& call);
  void Report(const std::string& name, int rows, double bytes, const std::function<void()>& call) {
    const double us = Microseconds(call);
    fmt::print("{:<28} {:>5} {:>9.2f} {:>8.0f}\n", name, rows, us, bytes / us / 1e3);
  }

  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

// Of one call; the best of three graphs.
double Bench::Microseconds(const std::function<void()>& call) {
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  Check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
  for (int i = 0; i < kCalls; ++i) call();
  Check(cudaGetLastError(), "launch");
  Check(cudaStreamEndCapture(stream_, &graph), "capture");
  Check(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate");
  float best = 1e30F;
  for (int i = 0; i < 4; ++i) {  // The first one is to warm up.
    float milliseconds = 0;
    Check(cudaEventRecord(begin_, stream_), "cudaEventRecord");
    Check(cudaGraphLaunch(exec, stream_), "cudaGraphLaunch");
    Check(cudaEventRecord(end_, stream_), "cudaEventRecord");
    Check(cudaEventSynchronize(end_), "run");
    Check(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime");
    if (i > 0) best = std::min(best, milliseconds);
  }
  Check(cudaGraphExecDestroy(exec), "cudaGraphExecDestroy");
  Check(cudaGraphDestroy(graph), "cudaGraphDestroy");
  return best * 1e3 / kCalls;
}

void Bench::MeasureRows() {
  const int qkv_width = (kHeads + 2 * kKvHeads) * kHeadWidth, q_width = kHeads * kHeadWidth;
  const int kv_width = kKvHeads * kHeadWidth, blocks = kMostRows / kKvBlock;
  float* x = Allocate<float>(int64_t{kMostRows} * kWidth);
  void* y = Allocate<uint16_t>(int64_t{kMostRows} * kWidth);
  void* both = Allocate<uint16_t>(int64_t{kMostRows} * 2 * kFfn);
  void* middle = Allocate<uint16_t>(int64_t{kMostRows} * kFfn);
  void* qkv = Allocate<uint16_t>(int64_t{kMostRows} * qkv_width);
  const float* gain = Allocate<float>(2 * kFfn);
  const float* rope = Allocate<float>(int64_t{kMostRows} * kHeadWidth / 2);
  const int64_t pool = int64_t{blocks} * kKvBlock * kv_width;
  const KvView kv{Allocate<uint16_t>(pool), Allocate<uint16_t>(pool), Stored::kBF16, kKvHeads,
                  kHeadWidth};
  const Matrix table{Allocate<uint16_t>(int64_t{kMostRows} * kWidth),
                     Stored::kBF16,
                     kWidth,
                     kMostRows,
                     kWidth,
                     nullptr};
  std::vector<int32_t> positions, block_ids;
  for (int n = 0; n < kMostRows; ++n) positions.push_back(n);
  for (int b = 0; b < blocks; ++b) block_ids.push_back(b);
  BatchView batch;
  batch.tokens = batch.positions = batch.logits = Upload(positions);
  batch.tables = Allocate<int32_t>(kMostRows), batch.blocks = Upload(block_ids);

  for (const int rows : {1, 16, 64, kMostRows}) {
    batch.rows = batch.logits_rows = rows;
    const auto tensor = [&](void* data, DType dtype, int64_t cols) {
      return Tensor::Dense(data, dtype, rows, cols);
    };
    const Tensor residual = tensor(x, DType::kF32, kWidth),
                 normed = tensor(y, DType::kBF16, kWidth);
    const Tensor all = tensor(qkv, DType::kBF16, qkv_width), q = all.Columns(0, q_width);
    const Tensor k = all.Columns(q_width, kv_width), v = all.Columns(q_width + kv_width, kv_width);
    const double element = static_cast<double>(rows) * kWidth;
    Report("norm, f32 to bf16", rows, 6 * element,
           [&] { RmsNorm(residual, 1, gain, 1e-5f, normed, stream_); });
    Report("norm of q's heads", rows, 4.0 * rows * q_width,
           [&] { RmsNorm(q, kHeads, gain, 1e-5f, q, stream_); });
    Report("add bf16 and a bias", rows, 10 * element,
           [&] { Add(residual, normed, gain, stream_); });
    Report("silu times up", rows, 6.0 * rows * kFfn, [&] {
      SiluMul(tensor(both, DType::kBF16, 2 * kFfn), tensor(middle, DType::kBF16, kFfn), stream_);
    });
    Report("embed bf16", rows, 6 * element, [&] { Embed(batch, 0, table, residual, stream_); });
    Report("rope and store", rows, rows * (4.0 * q_width + 8.0 * kv_width),
           [&] { RopeStore(batch, q, k, v, rope, rope, kv, stream_); });
    Report("sum of 2 ranks", rows, 12 * element,
           [&] { SumRanks(x, 2, rows * kWidth / 2, x, stream_); });
  }
  Report("copy a block, 1 layer", 1, 4.0 * kKvBlock * kv_width,
         [&] { CopyBlock(kv, 1, 0, {.from = 0, .to = 1, .tokens = kKvBlock}, stream_); });
}

void Bench::MeasureDraws() {
  constexpr int kMostDraws = 64, kMostKept = 1024;
  std::mt19937 generator(1);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> values(size_t{kMostDraws} * kVocab);
  for (float& v : values) v = normal(generator);
  const float* logits = Upload(values);
  std::vector<Adjustment> adjust;
  for (int i = 0; i < 1000; ++i) adjust.push_back({i * 128, 1.1f, 0.5f, 0});
  DrawArgs args;
  args.adjustments = Upload(adjust), args.width = kVocab;
  args.scratch = Allocate<char>(DrawScratchBytes(kMostDraws, kVocab, kMostKept));
  args.heads = Allocate<float>(int64_t{kMostDraws} * kDrawHead);
  args.best = static_cast<Candidate*>(
      static_cast<void*>(Allocate<char>(kMostDraws * static_cast<int>(sizeof(Candidate)))));
  args.kept = static_cast<Candidate*>(static_cast<void*>(
      Allocate<char>(int64_t{kMostDraws} * kMostKept * static_cast<int>(sizeof(Candidate)))));

  for (const int rows : {1, 16, kMostDraws}) {
    for (const auto& [name, temperature, adjustments, keep] :
         {std::tuple{"draw, greedy", 0.0f, 0, 0}, std::tuple{"draw", 0.8f, 0, 0},
          std::tuple{"draw, 1000 adjusted", 0.8f, 1000, 0},
          std::tuple{"draw, 50 kept", 0.8f, 0, 50}, std::tuple{"draw, 1024 kept", 0.8f, 0, 1024},
          std::tuple{"draw, 1024 kept, adjusted", 0.8f, 1000, 1024}}) {
      std::vector<DeviceDraw> draws;
      for (int d = 0; d < rows; ++d) {
        draws.push_back({.logits = logits + int64_t{d} * kVocab,
                         .temperature = temperature,
                         .seed = 1,
                         .agent = static_cast<uint32_t>(d),
                         .index = 7,
                         .first_adjustment = 0,
                         .num_adjustments = adjustments,
                         .keep = keep});
      }
      args.draws = Upload(draws), args.num_draws = rows, args.most_kept = keep;
      Report(name, rows, 4.0 * rows * kVocab, [&] { Draw(args, stream_); });
    }
  }
}

}  // namespace
}  // namespace conclave::worker::cuda

int main() {
  conclave::worker::cuda::Bench bench;
  bench.MeasureRows();
  bench.MeasureDraws();
  return 0;
}
