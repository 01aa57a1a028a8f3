#include <algorithm>
#include <array>
#include <map>
#include <tuple>
#include <utility>
#include <vector>

#include "common/status.h"
#include "worker/backend/cuda/cublas_call.h"
#include "worker/backend/cuda/gemm.h"
#include "worker/backend/cuda/gemm_proof.h"
#include "worker/backend/cuda/quantise.h"

namespace conclave::worker::cuda {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;  // What cuBLAS advises for Hopper.
constexpr int kMostCandidates = 8;

struct DeviceFree {
  void operator()(void* data) const { (void)cudaFree(data); }
};
using Memory = std::unique_ptr<void, DeviceFree>;

absl::StatusOr<Memory> Allocate(size_t bytes, std::string_view what) {
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, bytes);
  if (error == cudaSuccess) return Memory(data);
  (void)cudaGetLastError();
  if (error == cudaErrorMemoryAllocation) {
    return ResourceExhausted("no room for {} MiB of {} on the GPU", bytes >> 20, what);
  }
  return Internal("{}: {}", what, cudaGetErrorString(error));
}

// A number of an algorithm's description; what it does not know is 0.
int64_t AttributeOf(const cublasLtMatmulAlgo_t& algorithm,
                    cublasLtMatmulAlgoConfigAttributes_t attribute) {
  std::array<uint32_t, 2> value = {};
  size_t written = 0;
  const size_t bytes = attribute == CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID ||
                               attribute == CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID
                           ? 2
                           : 4;
  const cublasStatus_t status =
      cublasLtMatmulAlgoConfigGetAttribute(&algorithm, attribute, value.data(), bytes, &written);
  return status == CUBLAS_STATUS_SUCCESS ? static_cast<int32_t>(value[0]) : 0;
}

bool SplitsK(const cublasLtMatmulAlgo_t& algorithm) {
  const int64_t parts = AttributeOf(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM);
  return parts > 1 || parts < 0 ||
         AttributeOf(algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME) !=
             CUBLASLT_REDUCTION_SCHEME_NONE;
}

class CublasGemm : public Gemm {
 public:
  CublasGemm(cublasLtHandle_t handle, Memory workspace)
      : handle_(handle), workspace_(std::move(workspace)) {}
  ~CublasGemm() override { (void)cublasLtDestroy(handle_); }

  absl::Status Prepare(const Matrix& w, DType out, int64_t most_rows) override;
  void Run(Tensor x, const Matrix& w, Tensor out, bool add, cudaStream_t stream) override;
  absl::Status TakeError() override { return std::exchange(error_, absl::OkStatus()); }
  int64_t Version() const override { return static_cast<int64_t>(cublasLtGetVersion()); }

 private:
  struct Key {
    int64_t in, out, stride;
    DType type;
    auto operator<=>(const Key&) const = default;
  };
  struct Chosen {
    cublasLtMatmulAlgo_t algorithm;
    int64_t rows = 0;
    float milliseconds = 0;  // With `rows` rows.
    uint64_t bits = 0;       // Algorithms that give the same bits have the same.
  };
  static Key KeyOf(const Matrix& w, DType out) { return {w.in, w.out, w.stride, out}; }

  // Which bits does not depend on how fast anything was, for they must be the same on every rank
  // and after a restart: they are those of the first candidate, in the library's order, that has
  // the same bits in any company; the fastest with these bits is taken. Nor on how much memory
  // there is: where it is short for a candidate, nothing is chosen.
  absl::StatusOr<Chosen> Choose(const Matrix& w, DType out, int64_t most_rows,
                                std::vector<Chosen> candidates);
  absl::StatusOr<std::vector<Chosen>> Candidates(const Matrix& w, DType out, int64_t most_rows);
  absl::Status AddCandidates(const Matrix& w, DType out, int64_t rows,
                             std::vector<Chosen>* candidates);
  absl::Status Reserve(const Matrix& w);
  // bf16 numbers of w: its own, or in the scratch.
  Matrix Widened(const Matrix& w, cudaStream_t stream);
  absl::Status Multiply(const cublasLtMatmulAlgo_t& algorithm, Tensor x, const Matrix& w,
                        Tensor out, bool add, cudaStream_t stream);

  const cublasLtHandle_t handle_;
  const Memory workspace_;
  Memory scratch_;
  size_t scratch_bytes_ = 0;
  std::map<Key, Chosen> chosen_;
  absl::Status error_;
};

absl::Status CublasGemm::Prepare(const Matrix& w, DType out, int64_t most_rows) {
  RETURN_IF_ERROR(Reserve(w));
  const auto known = chosen_.find(KeyOf(w, out));
  if (known != chosen_.end() && known->second.rows >= most_rows) return absl::OkStatus();
  if (const cudaError_t error = cudaDeviceSynchronize(); error != cudaSuccess) {
    return Internal("before a product of [{}, {}] is chosen: {}", w.out, w.in,
                    cudaGetErrorString(error));
  }
  auto candidates = known == chosen_.end()
                        ? Candidates(w, out, most_rows)
                        : std::vector<Chosen>{known->second};  // What it was it remains.
  const auto chosen = candidates.ok() ? Choose(w, out, most_rows, *std::move(candidates))
                                      : absl::StatusOr<Chosen>(candidates.status());
  if (!chosen.ok()) {
    return Annotate(chosen.status(),
                    fmt::format("no product for a weight [{}, {}] ({} rows, {})", w.out, w.in,
                                most_rows, out == DType::kF32 ? "f32" : "bf16"));
  }
  chosen_.insert_or_assign(KeyOf(w, out), *chosen);
  return absl::OkStatus();
}

absl::Status CublasGemm::Reserve(const Matrix& w) {
  if (w.stored == Stored::kBF16) return absl::OkStatus();
  const size_t bytes = static_cast<size_t>(w.out * w.stride) * 2;
  if (bytes <= scratch_bytes_) return absl::OkStatus();
  scratch_.reset();  // Waits for the device.
  scratch_bytes_ = 0;
  ASSIGN_OR_RETURN(scratch_, Allocate(bytes, "a widened weight"));
  scratch_bytes_ = bytes;
  return absl::OkStatus();
}

Matrix CublasGemm::Widened(const Matrix& w, cudaStream_t stream) {
  if (w.stored == Stored::kBF16) return w;
  Widen(w, scratch_.get(), stream);
  return {scratch_.get(), Stored::kBF16, w.in, w.out, w.stride};
}

absl::Status CublasGemm::AddCandidates(const Matrix& w, DType out, int64_t rows,
                                       std::vector<Chosen>* candidates) {
  CublasCall call;
  // Only shapes are looked at.
  Tensor x = Tensor::Dense(nullptr, DType::kBF16, rows, w.in);
  x.stride = (w.in + 7) / 8 * 8;
  RETURN_IF_ERROR(call.Describe(w, x, Tensor::Dense(nullptr, out, rows, w.out)));
  cublasLtMatmulPreferenceOpaque_t preference = {};
  const uint32_t no_reduction = CUBLASLT_REDUCTION_SCHEME_NONE, alignment = 16;
  cublasStatus_t status = cublasLtMatmulPreferenceInit(&preference);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t name, const auto& value) {
    if (status != CUBLAS_STATUS_SUCCESS) return;
    status = cublasLtMatmulPreferenceSetAttribute(&preference, name, &value, sizeof value);
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, kWorkspaceBytes);
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, no_reduction);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment);
  RETURN_IF_ERROR(StatusOf(status, "cuBLASLt refuses a preference"));
  std::array<cublasLtMatmulHeuristicResult_t, 2 * kMostCandidates> found = {};
  int count = 0;
  status = cublasLtMatmulAlgoGetHeuristic(handle_, &call.operation, &call.w, &call.x, &call.out,
                                          &call.out, &preference, static_cast<int>(found.size()),
                                          found.data(), &count);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return absl::OkStatus();  // None for so many rows.
  RETURN_IF_ERROR(StatusOf(status, "cuBLASLt's heuristic"));
  for (int i = 0; i < count; ++i) {
    const auto& result = found[static_cast<size_t>(i)];
    if (result.state != CUBLAS_STATUS_SUCCESS || SplitsK(result.algo)) continue;
    if (result.workspaceSize > kWorkspaceBytes) continue;
    const auto same = [&](const Chosen& c) {
      return std::ranges::equal(c.algorithm.data, result.algo.data);
    };
    if (std::ranges::none_of(*candidates, same)) candidates->push_back({.algorithm = result.algo});
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<CublasGemm::Chosen>> CublasGemm::Candidates(const Matrix& w, DType out,
                                                                       int64_t most_rows) {
  std::vector<Chosen> candidates;
  RETURN_IF_ERROR(AddCandidates(w, out, most_rows, &candidates));
  // What it would take for fewer rows, should it take only what splits K for many.
  for (const int64_t rows : {512, 128}) {
    if (std::ssize(candidates) >= kMostCandidates || rows >= most_rows) continue;
    RETURN_IF_ERROR(AddCandidates(w, out, rows, &candidates));
  }
  if (candidates.size() > kMostCandidates) candidates.resize(kMostCandidates);
  return candidates;
}

absl::StatusOr<CublasGemm::Chosen> CublasGemm::Choose(const Matrix& w, DType out, int64_t most_rows,
                                                      std::vector<Chosen> candidates) {
  ASSIGN_OR_RETURN(const auto proof, GemmProof::Make({w.in, w.out, out, most_rows}));
  const Matrix wide = Widened(w, nullptr);
  if (cudaDeviceSynchronize() != cudaSuccess) return Internal("its weight cannot be read");
  const auto product_of = [&](const Chosen& candidate) {
    return [&](Tensor x, Tensor y, bool add, cudaStream_t stream) {
      return Multiply(candidate.algorithm, x, wide, y, add, stream);
    };
  };
  std::string reasons;
  std::vector<Chosen> able;
  for (Chosen& candidate : candidates) {
    candidate.rows = most_rows;
    const auto milliseconds = proof->Milliseconds(product_of(candidate));
    const auto bits = milliseconds.ok() ? proof->Digest(product_of(candidate))
                                        : absl::StatusOr<uint64_t>(milliseconds.status());
    if (absl::IsResourceExhausted(bits.status())) return bits.status();
    if (!bits.ok()) {
      reasons += fmt::format("; {}", MessageOf(bits.status()));
      continue;
    }
    candidate.milliseconds = *milliseconds, candidate.bits = *bits;
    able.push_back(candidate);
  }
  while (!able.empty()) {
    // Those with the bits of the first, by speed.
    const uint64_t bits = able.front().bits;
    std::ranges::stable_sort(able, {}, [&](const Chosen& c) {
      return std::pair(c.bits != bits, c.bits == bits ? c.milliseconds : 0);
    });
    for (; !able.empty() && able.front().bits == bits; able.erase(able.begin())) {
      const absl::Status status = proof->Check(product_of(able.front()));
      if (status.ok()) return able.front();
      if (absl::IsResourceExhausted(status)) return status;
      reasons += fmt::format("; {}", MessageOf(status));
    }
  }
  return Internal("{} algorithms tried{}", candidates.size(), reasons);
}

absl::Status CublasGemm::Multiply(const cublasLtMatmulAlgo_t& algorithm, Tensor x, const Matrix& w,
                                  Tensor out, bool add, cudaStream_t stream) {
  CublasCall call;
  RETURN_IF_ERROR(call.Describe(w, x, out));
  const float alpha = 1, beta = add ? 1 : 0;
  return StatusOf(cublasLtMatmul(handle_, &call.operation, &alpha, w.data, &call.w, x.data, &call.x,
                                 &beta, out.data, &call.out, out.data, &call.out, &algorithm,
                                 workspace_.get(), kWorkspaceBytes, stream),
                  "cublasLtMatmul");
}

void CublasGemm::Run(Tensor x, const Matrix& w, Tensor out, bool add, cudaStream_t stream) {
  if (x.rows == 0 || !error_.ok()) return;
  const auto chosen = chosen_.find(KeyOf(w, out.dtype));
  absl::Status status;
  if (chosen == chosen_.end() || x.rows > chosen->second.rows) {
    status = Internal("it is not prepared");
  } else {
    status = Multiply(chosen->second.algorithm, x, Widened(w, stream), out, add, stream);
  }
  if (!status.ok()) {
    error_ = Annotate(status, fmt::format("{} rows times a weight [{}, {}]", x.rows, w.out, w.in));
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<Gemm>> MakeGemm() {
  ASSIGN_OR_RETURN(Memory workspace, Allocate(kWorkspaceBytes, "cuBLASLt's workspace"));
  cublasLtHandle_t handle = nullptr;
  RETURN_IF_ERROR(StatusOf(cublasLtCreate(&handle), "cuBLASLt does not start"));
  return std::make_unique<CublasGemm>(handle, std::move(workspace));
}

}  // namespace conclave::worker::cuda
