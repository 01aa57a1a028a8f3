// What rule 2 costs (no bit of a row depends on its company): the products that serve, whose order
// of summation the weight's shape fixes, beside the fastest that cuBLASLt has for just that many
// rows, with any split of K. Weights of a layer of Llama 3.1 8B, bf16; each call reads another
// copy, so that nothing comes from the L2 cache.
//
//   gpu_rule_bench [--quick]     --quick: small shapes, to see that it runs. Exits with 77 where
//                                there is no GPU.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "tests/bench/moderate_numbers.h"
#include "worker/backend/cuda/cublas_call.h"
#include "worker/backend/cuda/gemm.h"
#include "worker/backend/cuda/linear_rows.h"

namespace conclave::worker::cuda {
namespace {

constexpr size_t kWorkspace = size_t{64} << 20;
constexpr int64_t kFewRows = 64;  // Rows up to here are produced ones, more a prompt's.

void Check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}
void Check(const absl::Status& status) {
  if (!status.ok()) throw std::runtime_error(status.ToString());
}

// Device memory until the end of the scope, full of bf16.
class Numbers {
 public:
  explicit Numbers(size_t count) {
    Check(cudaMalloc(&data_, 2 * count));
    const auto piece = bench::ModerateNumbers(std::min(count, size_t{1} << 22));
    for (size_t at = 0; at < count; at += piece.size()) {
      const size_t bytes = 2 * std::min(piece.size(), count - at);
      Check(cudaMemcpy(static_cast<char*>(data_) + 2 * at, piece.data(), bytes,
                       cudaMemcpyHostToDevice));
    }
  }
  ~Numbers() { (void)cudaFree(data_); }
  Numbers(const Numbers&) = delete;
  Numbers& operator=(const Numbers&) = delete;
  char* at(size_t element) const { return static_cast<char*>(data_) + 2 * element; }

 private:
  void* data_ = nullptr;
};

struct Shape {
  std::string_view name;
  int64_t out, in;
};

class Bench {
 public:
  explicit Bench(bool quick) : quick_(quick), workspace_(kWorkspace / 2) {
    Check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    Check(cudaEventCreate(&begin_));
    Check(cudaEventCreate(&end_));
    if (cublasLtCreate(&library_) != CUBLAS_STATUS_SUCCESS) {
      throw std::runtime_error("cuBLASLt does not start");
    }
    auto gemm = MakeGemm();
    Check(gemm.status());
    gemm_ = *std::move(gemm);
  }
  ~Bench() {
    gemm_.reset();
    (void)cublasLtDestroy(library_);
    (void)cudaEventDestroy(end_);
    (void)cudaEventDestroy(begin_);
    (void)cudaStreamDestroy(stream_);
  }
  Bench(const Bench&) = delete;
  Bench& operator=(const Bench&) = delete;

  void Measure(const Shape& shape, const std::vector<int64_t>& counts);

 private:
  using Product = std::function<void(const Matrix& w)>;
  // Seconds of one call, the least of a few rounds; each call's weight is the next copy.
  double Time(const Product& product);
  double Fastest(Tensor x, Tensor out);
  double Kept(Tensor x, Tensor out);
  Matrix Copy(size_t i) const {
    const size_t element = i % copies_ * static_cast<size_t>(shape_.out * shape_.in);
    return {weights_->at(element), Stored::kBF16, shape_.in, shape_.out, shape_.in};
  }

  const bool quick_;
  const Numbers workspace_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
  cublasLtHandle_t library_ = nullptr;
  std::unique_ptr<Gemm> gemm_;
  Shape shape_ = {};
  std::unique_ptr<Numbers> weights_;
  size_t copies_ = 1;
};

double Bench::Time(const Product& product) {
  const size_t calls = quick_ ? 1 : std::max<size_t>(8, copies_);
  product(Copy(0));  // Loads the kernel.
  double least = std::numeric_limits<double>::infinity();
  for (int round = 0; round < (quick_ ? 1 : 5); ++round) {
    Check(cudaEventRecord(begin_, stream_));
    for (size_t i = 0; i < calls; ++i) product(Copy(i));
    Check(cudaEventRecord(end_, stream_));
    Check(cudaEventSynchronize(end_));
    Check(cudaGetLastError());
    float milliseconds = 0;
    Check(cudaEventElapsedTime(&milliseconds, begin_, end_));
    least = std::min(least, milliseconds / 1e3 / static_cast<double>(calls));
  }
  return least;
}

double Bench::Kept(Tensor x, Tensor out) {
  if (x.rows <= kFewRows) {
    return Time([&](const Matrix& w) { LinearRows({.x = x, .w = w, .out = out}, stream_); });
  }
  Check(gemm_->Prepare(Copy(0), out.dtype, x.rows));
  const double seconds =
      Time([&](const Matrix& w) { gemm_->Run(x, w, out, /*add=*/false, stream_); });
  Check(gemm_->TakeError());
  return seconds;
}

double Bench::Fastest(Tensor x, Tensor out) {
  CublasCall call;
  Check(call.Describe(Copy(0), x, out));
  cublasLtMatmulPreferenceOpaque_t preference = {};
  Check(StatusOf(cublasLtMatmulPreferenceInit(&preference), "a preference"));
  const size_t workspace = kWorkspace;
  Check(StatusOf(
      cublasLtMatmulPreferenceSetAttribute(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                           &workspace, sizeof(workspace)),
      "a preference"));
  std::array<cublasLtMatmulHeuristicResult_t, 32> found = {};
  int count = 0;
  Check(StatusOf(cublasLtMatmulAlgoGetHeuristic(
                     library_, &call.operation, &call.w, &call.x, &call.out, &call.out, &preference,
                     static_cast<int>(found.size()), found.data(), &count),
                 "the heuristic"));
  double least = std::numeric_limits<double>::infinity();
  for (int i = 0; i < count; ++i) {
    const auto& result = found[static_cast<size_t>(i)];
    if (result.state != CUBLAS_STATUS_SUCCESS) continue;
    least = std::min(
        least, Time([&](const Matrix& w) {
          const float one = 1, zero = 0;
          Check(StatusOf(cublasLtMatmul(library_, &call.operation, &one, w.data, &call.w, x.data,
                                        &call.x, &zero, out.data, &call.out, out.data, &call.out,
                                        &result.algo, workspace_.at(0), kWorkspace, stream_),
                         "a product"));
        }));
  }
  return least;
}

void Bench::Measure(const Shape& shape, const std::vector<int64_t>& counts) {
  shape_ = shape;
  const size_t elements = static_cast<size_t>(shape.out * shape.in);
  copies_ = quick_ ? 1 : (size_t{1} << 28) / elements + 1;  // More than 512 MB in all.
  weights_ = std::make_unique<Numbers>(copies_ * elements);
  for (const int64_t rows : counts) {
    const Numbers x(static_cast<size_t>(rows * shape.in)),
        out(static_cast<size_t>(rows * shape.out));
    const Tensor from = Tensor::Dense(x.at(0), DType::kBF16, rows, shape.in);
    const Tensor to = Tensor::Dense(out.at(0), DType::kBF16, rows, shape.out);
    const double kept = Kept(from, to), fastest = Fastest(from, to);
    fmt::print("{:<10} {:>6} {:>6} {:>6} {:>11.2f} {:>11.2f} {:>7.2f}\n", shape.name, shape.out,
               shape.in, rows, kept * 1e6, fastest * 1e6, kept / fastest);
    std::fflush(stdout);
  }
}

void Run(bool quick) {
  fmt::print("{:<10} {:>6} {:>6} {:>6} {:>11} {:>11} {:>7}\n", "weight", "out", "in", "rows",
             "serves us", "fastest us", "cost");
  Bench bench(quick);
  if (quick) return bench.Measure({"quick", 64, 128}, {1, 16, 96});
  for (const Shape& shape : {Shape{"qkv", 6144, 4096},
                             {"output", 4096, 4096},
                             {"gate, up", 28672, 4096},
                             {"down", 4096, 14336}}) {
    bench.Measure(shape, {1, 8, 16, 64, 512, 4096});
  }
}

}  // namespace
}  // namespace conclave::worker::cuda

int main(int argc, char** argv) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    fmt::print("skipped: no CUDA device\n");
    return 77;
  }
  try {
    conclave::worker::cuda::Run(argc > 1 && std::string_view(argv[1]) == "--quick");
  } catch (const std::exception& error) {
    fmt::print(stderr, "gpu_rule_bench: {}\n", error.what());
    return 1;
  }
  return 0;
}
