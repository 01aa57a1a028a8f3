#include "tests/bench/gpu_ceilings.h"

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "common/status.h"
#include "tests/bench/moderate_numbers.h"
#include "tests/bench/table.h"
#include "worker/backend/cuda/gemm.h"

namespace conclave::bench {
namespace {

absl::Status Check(cudaError_t error) {
  if (error == cudaSuccess) return absl::OkStatus();
  return FailedPrecondition("{}", cudaGetErrorString(error));
}

// Device memory until the end of the scope.
struct Memory {
  explicit Memory(size_t size) { status = Check(cudaMalloc(&data, size)); }
  ~Memory() { (void)cudaFree(data); }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  void* data = nullptr;
  absl::Status status;
};

// Median seconds of one call of `work`, of seven after a warm-up.
absl::StatusOr<double> Time(cudaStream_t stream, const std::function<void()>& work) {
  cudaEvent_t begin, end;
  RETURN_IF_ERROR(Check(cudaEventCreate(&begin)));
  RETURN_IF_ERROR(Check(cudaEventCreate(&end)));
  std::vector<double> seconds;
  for (int i = 0; i < 8; ++i) {
    (void)cudaEventRecord(begin, stream);
    work();
    (void)cudaEventRecord(end, stream);
    RETURN_IF_ERROR(Check(cudaEventSynchronize(end)));
    float ms = 0;
    RETURN_IF_ERROR(Check(cudaEventElapsedTime(&ms, begin, end)));
    if (i > 0) seconds.push_back(ms / 1e3);
  }
  (void)cudaEventDestroy(begin);
  (void)cudaEventDestroy(end);
  return Median(seconds);
}

absl::StatusOr<double> CopyGb(cudaStream_t stream) {
  constexpr size_t kBytes = size_t{4} << 30;
  const Memory from(kBytes), to(kBytes);
  RETURN_IF_ERROR(from.status);
  RETURN_IF_ERROR(to.status);
  RETURN_IF_ERROR(Check(cudaMemsetAsync(from.data, 0x3c, kBytes, stream)));
  ASSIGN_OR_RETURN(const double seconds, Time(stream, [&] {
                     (void)cudaMemcpyAsync(to.data, from.data, kBytes, cudaMemcpyDeviceToDevice,
                                           stream);
                   }));
  return 2.0 * kBytes / seconds / 1e9;
}

absl::StatusOr<double> MatrixTflops(cudaStream_t stream) {
  constexpr int64_t kSize = 8192;
  const Memory x(2 * kSize * kSize), w(2 * kSize * kSize), out(2 * kSize * kSize);
  for (const Memory* each : {&x, &w, &out}) RETURN_IF_ERROR(each->status);
  const std::vector<uint16_t> numbers = ModerateNumbers(kSize * kSize);
  for (const Memory* each : {&x, &w}) {
    RETURN_IF_ERROR(
        Check(cudaMemcpy(each->data, numbers.data(), 2 * numbers.size(), cudaMemcpyHostToDevice)));
  }
  ASSIGN_OR_RETURN(const auto gemm, worker::cuda::MakeGemm());
  const worker::cuda::Matrix matrix{w.data, worker::cuda::Stored::kBF16, kSize, kSize, kSize,
                                    nullptr};
  RETURN_IF_ERROR(gemm->Prepare(matrix, worker::DType::kBF16, kSize));
  const auto tensor = [](const Memory& memory) {
    return worker::Tensor::Dense(memory.data, worker::DType::kBF16, kSize, kSize);
  };
  ASSIGN_OR_RETURN(const double seconds, Time(stream, [&] {
                     gemm->Run(tensor(x), matrix, tensor(out), /*add=*/false, stream);
                   }));
  RETURN_IF_ERROR(gemm->TakeError());
  return 2.0 * kSize * kSize * kSize / seconds / 1e12;
}

}  // namespace

absl::StatusOr<GpuCeilings> MeasureGpuCeilings() {
  GpuCeilings ceilings;
  cudaDeviceProp properties;
  RETURN_IF_ERROR(Check(cudaGetDeviceProperties(&properties, 0)));
  ceilings.name = properties.name;
  cudaStream_t stream;
  RETURN_IF_ERROR(Check(cudaStreamCreate(&stream)));
  ASSIGN_OR_RETURN(ceilings.copy_gb, CopyGb(stream));
  ASSIGN_OR_RETURN(ceilings.matrix_tflops, MatrixTflops(stream));
  (void)cudaStreamDestroy(stream);
  return ceilings;
}

}  // namespace conclave::bench
