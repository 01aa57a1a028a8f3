// What attention takes on this GPU, layer by layer: decode steps of agents with contexts of their
// own and with one in common, and a prompt. Tables to stdout.
#include <cuda_runtime.h>
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <random>
#include <vector>

#include "worker/backend/cuda/attend.h"

namespace conclave::worker::cuda {
namespace {

constexpr int kHeads = 32, kKvHeads = 8, kWidth = 128;
constexpr int64_t kPoolBytes = int64_t{4} << 30;  // Of keys, and of values.
constexpr int kMostLayers = 512;                  // So that nothing comes from the L2 cache.
constexpr int kTail = 40;                         // Tokens of an agent's own behind its context.

void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  fmt::print(stderr, "cuda_attend_bench: {}: {}\n", what, cudaGetErrorString(error));
  std::exit(1);
}

// Device memory for the life of the program.
template <typename T>
T* Allocate(int64_t count) {
  void* memory = nullptr;
  Check(cudaMalloc(&memory, static_cast<size_t>(count) * sizeof(T)), "cudaMalloc");
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
    keys_ = Allocate<char>(kPoolBytes);
    values_ = Allocate<char>(kPoolBytes);
    queries_ = Allocate<char>(int64_t{4096} * kHeads * kWidth * 2);
    out_ = Allocate<char>(int64_t{4096} * kHeads * kWidth * 2);
    // Moderate numbers both as bf16 and as e4m3: exponents around 1, random mantissas and signs.
    std::mt19937 generator(1);
    std::vector<uint16_t> numbers(1 << 24);
    for (uint16_t& n : numbers) n = static_cast<uint16_t>((generator() & 0x87bfu) | 0x3800u);
    const auto bytes = static_cast<int64_t>(numbers.size() * 2);
    for (char* memory : {keys_, values_}) {
      Check(cudaMemcpy(memory, numbers.data(), static_cast<size_t>(bytes), cudaMemcpyHostToDevice),
            "cudaMemcpy");
      for (int64_t done = bytes; done < kPoolBytes; done *= 2) {
        const auto more = static_cast<size_t>(std::min(done, kPoolBytes - done));
        Check(cudaMemcpy(memory + done, memory, more, cudaMemcpyDeviceToDevice), "cudaMemcpy");
      }
    }
    Check(cudaMemcpy(queries_, numbers.data(), static_cast<size_t>(bytes), cudaMemcpyHostToDevice),
          "cudaMemcpy");
  }

  void Measure() {
    cudaDeviceProp properties;
    Check(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
    copy_gb_ = CopyGb();
    fmt::print("{}: copy {:.0f} GB/s (read and written)\n", properties.name, copy_gb_);
    fmt::print("\nDecode, one layer, {} heads, {} KV heads of {}; MB: unique KV\n", kHeads,
               kKvHeads, kWidth);
    fmt::print("{:>5} {:>8} {:>8} {:>6} {:>9} {:>8} {:>8} {:>7}\n", "rows", "context", "prompt",
               "KV", "MB", "us", "GB/s", "copy");
    for (const Stored stored : {Stored::kBF16, Stored::kE4M3}) {
      for (const int context : {64, 200, 1024, 8192, 32768}) {
        for (const int rows : {1, 8, 16}) {
          Decode(rows, context, false, stored);
          if (rows > 1) Decode(rows, context, true, stored);
        }
      }
    }
    fmt::print("\nPlanDecode, 64 rows, 32k tokens: {:.1f} us shared, {:.1f} us each its own\n",
               PlanMicroseconds(true), PlanMicroseconds(false));
    fmt::print("\nPrefill, one layer\n{:>6} {:>8} {:>6} {:>9} {:>9}\n", "rows", "from", "KV", "us",
               "TFLOP/s");
    for (const Stored stored : {Stored::kBF16, Stored::kE4M3}) {
      for (const auto& [rows, from] : {std::pair{512, 0}, {4096, 0}, {2048, 30720}}) {
        Prefill(rows, from, stored);
      }
    }
  }

 private:
  // As a plain operation: a graph may give a copy to a slower engine.
  double CopyGb() {
    float best = 1e30F;
    for (int i = 0; i < 4; ++i) {
      float milliseconds = 0;
      Check(cudaEventRecord(begin_, stream_), "cudaEventRecord");
      Check(cudaMemcpyAsync(keys_, values_, kPoolBytes, cudaMemcpyDeviceToDevice, stream_),
            "cudaMemcpyAsync");
      Check(cudaEventRecord(end_, stream_), "cudaEventRecord");
      Check(cudaEventSynchronize(end_), "a copy");
      Check(cudaEventElapsedTime(&milliseconds, begin_, end_), "cudaEventElapsedTime");
      best = std::min(best, milliseconds);
    }
    return 2 * static_cast<double>(kPoolBytes) / 1e6 / best;
  }

  // Of one call, in a graph of `calls` of them; the better of three.
  double Microseconds(int calls, const std::function<void(int)>& call) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    Check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capture");
    for (int i = 0; i < calls; ++i) call(i);
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
    return 1e3 * best / calls;
  }

  // Block tables of `rows` agents, one after another; how many blocks they need.
  static std::vector<std::vector<int32_t>> Tables(int rows, int context, bool shared, int* used) {
    std::vector<std::vector<int32_t>> tables(rows);
    int next = 0;
    for (int row = 0; row < rows; ++row) {
      for (int b = 0; b * kKvBlock < context + kTail; ++b) {
        const bool common = shared && row > 0 && b < context / kKvBlock;
        tables[row].push_back(common ? tables[0][b] : next++);
      }
    }
    *used = next;
    return tables;
  }

  struct Planned {
    DecodePlan plan;
    std::vector<int32_t> positions, offsets, blocks;
  };
  static Planned PlanOf(const std::vector<std::vector<int32_t>>& tables, int context) {
    Planned planned;
    std::vector<const int32_t*> starts;
    for (const auto& table : tables) {
      starts.push_back(table.data());
      planned.offsets.push_back(static_cast<int32_t>(planned.blocks.size()));
      planned.positions.push_back(context + kTail - 1);
      planned.blocks.insert(planned.blocks.end(), table.begin(), table.end());
    }
    planned.plan = PlanDecode(starts, planned.offsets, planned.positions, 0);
    return planned;
  }

  KvView Kv(Stored stored, int64_t byte) const {
    return {keys_ + byte, values_ + byte, stored, kKvHeads, kWidth};
  }

  void Decode(int rows, int context, bool shared, Stored stored) {
    int used = 0;
    const auto tables = Tables(rows, context, shared, &used);
    const Planned planned = PlanOf(tables, context);
    AttendArgs args;
    args.batch.rows = rows;
    args.batch.positions = Upload(planned.positions);
    args.batch.tables = Upload(planned.offsets);
    args.batch.blocks = Upload(planned.blocks);
    args.q = Tensor::Dense(queries_, DType::kBF16, rows, kHeads * kWidth);
    args.out = Tensor::Dense(out_, DType::kBF16, rows, kHeads * kWidth);
    args.scale = 0.088F;
    args.items = Upload(planned.plan.items);
    args.item_rows = Upload(planned.plan.item_rows);
    args.num_items = static_cast<int>(planned.plan.items.size());
    args.max_pieces = planned.plan.max_pieces;
    args.parts = Allocate<float>(PartFloats(rows, kHeads, kWidth, args.max_pieces));
    // Each call another part of the pool, as layers are.
    const int64_t size = stored == Stored::kE4M3 ? 1 : 2;
    const int64_t layer = Kv(stored, 0).block_stride() * size * used;
    const int layers = static_cast<int>(std::clamp<int64_t>(kPoolBytes / layer, 1, kMostLayers));
    const double us = Microseconds(std::max(layers, 4), [&](int call) {
      args.kv = Kv(stored, layer * (call % layers));
      AttendDecode(args, stream_);
    });
    const double bytes = 2.0 * kKvHeads * kWidth * static_cast<double>(size) *
                         (shared ? context + rows * kTail : rows * (context + kTail));
    fmt::print("{:>5} {:>8} {:>8} {:>6} {:>9.1f} {:>8.1f} {:>8.0f} {:>6.0f}%\n", rows, context,
               shared ? "shared" : "own", size == 1 ? "e4m3" : "bf16", bytes / 1e6, us,
               bytes / 1e3 / us, 100 * bytes / 1e3 / us / copy_gb_);
  }

  static double PlanMicroseconds(bool shared) {
    int used = 0;
    const auto tables = Tables(64, 32768, shared, &used);
    double best = 1e30;
    const Planned first = PlanOf(tables, 32768);
    std::vector<const int32_t*> starts;
    for (const auto& table : tables) starts.push_back(table.data());
    for (int i = 0; i < 20; ++i) {
      const auto start = std::chrono::steady_clock::now();
      const DecodePlan plan = PlanDecode(starts, first.offsets, first.positions, 0);
      const std::chrono::duration<double, std::micro> took =
          std::chrono::steady_clock::now() - start;
      if (!plan.items.empty()) best = std::min(best, took.count());
    }
    return best;
  }

  void Prefill(int rows, int from, Stored stored) {
    std::vector<int32_t> blocks((from + rows) / kKvBlock), positions(rows);
    std::iota(blocks.begin(), blocks.end(), 0);
    std::iota(positions.begin(), positions.end(), from);
    const Run run{.first_row = 0,
                  .rows = rows,
                  .position = from,
                  .blocks = blocks.data(),
                  .num_blocks = static_cast<int32_t>(blocks.size())};
    const std::vector<PrefillTile> tiles = PlanPrefill({run}, rows, PrefillTileRows());
    AttendArgs args;
    args.batch.rows = rows;
    args.batch.prompt_rows = rows;
    args.batch.positions = Upload(positions);
    args.batch.tables = Upload(std::vector<int32_t>(rows, 0));
    args.batch.blocks = Upload(blocks);
    args.q = Tensor::Dense(queries_, DType::kBF16, rows, kHeads * kWidth);
    args.out = Tensor::Dense(out_, DType::kBF16, rows, kHeads * kWidth);
    args.kv = Kv(stored, 0);
    args.scale = 0.088F;
    args.tiles = Upload(tiles);
    args.num_tiles = static_cast<int>(tiles.size());
    const double us = Microseconds(4, [&](int) { AttendPrefill(args, stream_); });
    const double seen = (from + (rows + 1) / 2.0) * rows;  // Pairs of a row and a position.
    fmt::print("{:>6} {:>8} {:>6} {:>9.1f} {:>9.0f}\n", rows, from,
               stored == Stored::kE4M3 ? "e4m3" : "bf16", us,
               4 * seen * kHeads * kWidth / 1e6 / us);
  }

  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
  char *keys_ = nullptr, *values_ = nullptr, *queries_ = nullptr, *out_ = nullptr;
  double copy_gb_ = 0;
};

}  // namespace
}  // namespace conclave::worker::cuda

int main() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    fmt::print("cuda_attend_bench: no CUDA device\n");
    return 0;
  }
  conclave::worker::cuda::Bench().Measure();
}
