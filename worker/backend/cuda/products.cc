#include "worker/backend/cuda/products.h"

#include <algorithm>

#include "common/check.h"
#include "common/status.h"
#include "worker/backend/cuda/linear_rows.h"
#include "worker/backend/cuda/rows.h"
#include "worker/backend/cuda/weight_packer.h"

namespace conclave::worker::cuda {
namespace {

// Rows of one call of Gemm: what its algorithms are proven for. More are cut, which no row notices.
constexpr int64_t kGemmRows = 2048;

const Matrix& MatrixOf(const Weight& weight) {
  return static_cast<const CudaWeight&>(weight).matrix;
}

// Rows that Gemm multiplies.
int64_t LargeRows(Tensor x, int64_t prompt_rows) {
  return x.dtype == DType::kBF16 ? std::min(prompt_rows, x.rows) : 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Products>> Products::Make(cudaStream_t stream) {
  ASSIGN_OR_RETURN(std::unique_ptr<Gemm> gemm, MakeGemm());
  return std::unique_ptr<Products>(new Products(std::move(gemm), stream));
}

// Prompt rows of bf16.
absl::Status Products::Multiply(Tensor x, const Matrix& w, bool add, Tensor out) {
  if (prepared_.emplace(w.in, w.out, w.stored, out.dtype).second) {
    RETURN_IF_ERROR(gemm_->Prepare(w, out.dtype, kGemmRows));
  }
  for (int64_t first = 0; first < x.rows; first += kGemmRows) {
    const int64_t rows = std::min(kGemmRows, x.rows - first);
    gemm_->Run(x.Rows(first, rows), w, out.Rows(first, rows), add, stream_);
  }
  return absl::OkStatus();
}

absl::Status Products::Linear(Tensor x, int64_t prompt_rows, const Weight& weight, bool add,
                              Tensor out) {
  const Matrix& w = MatrixOf(weight);
  CHECK(x.cols == w.in && out.cols == w.out && x.rows == out.rows);
  if (w.out == 0) return absl::OkStatus();
  const int64_t large = LargeRows(x, prompt_rows), small = x.rows - large;
  if (large > 0) RETURN_IF_ERROR(Multiply(x.Rows(0, large), w, add, out.Rows(0, large)));
  if (small > 0) {
    LinearRows({.x = x.Rows(large, small), .w = w, .out = out.Rows(large, small), .add = add},
               stream_);
  }
  return absl::OkStatus();
}

absl::Status Products::GateUp(Tensor x, int64_t prompt_rows, const Weight& weight,
                              const float* bias, Tensor out) {
  const Matrix& w = MatrixOf(weight);
  CHECK(x.cols == w.in && 2 * out.cols == w.out && x.rows == out.rows);
  if (w.out == 0) return absl::OkStatus();
  const int64_t large = LargeRows(x, prompt_rows), small = x.rows - large;
  for (int64_t first = 0; first < large; first += kGemmRows) {
    const int64_t rows = std::min(kGemmRows, large - first);
    RETURN_IF_ERROR(
        both_.Reserve(static_cast<size_t>(rows * w.out) * BytesOf(x.dtype), stream_, &moved_));
    const Tensor both = Tensor::Dense(both_.data(), x.dtype, rows, w.out);
    RETURN_IF_ERROR(Multiply(x.Rows(first, rows), w, /*add=*/false, both));
    if (bias != nullptr) AddBias(both, bias, stream_);
    SiluMul(both, out.Rows(first, rows), stream_);
  }
  if (small > 0) {
    GateUpRows({.x = x.Rows(large, small), .w = w, .out = out.Rows(large, small), .bias = bias},
               stream_);
  }
  return absl::OkStatus();
}

bool Products::NormLinear(Tensor x, const RowNorm& norm, DType normed, int64_t prompt_rows,
                          const Weight& weight, Tensor out) {
  const Matrix& w = MatrixOf(weight);
  if (prompt_rows > 0 || normed != DType::kBF16 || !CanNorm(x, norm, w)) return false;
  NormLinearRow({.x = x, .w = w, .out = out}, norm, stream_);
  return true;
}

bool Products::NormGateUp(Tensor x, const RowNorm& norm, DType normed, int64_t prompt_rows,
                          const Weight& weight, const float* bias, Tensor out) {
  const Matrix& w = MatrixOf(weight);
  if (prompt_rows > 0 || normed != DType::kBF16 || !CanNorm(x, norm, w)) return false;
  NormGateUpRow({.x = x, .w = w, .out = out, .bias = bias}, norm, stream_);
  return true;
}

absl::Status Products::MixExperts(Tensor x, Tensor scores,
                                  const std::vector<ExpertWeights>& experts,
                                  const ExpertChoice& choice, Tensor out) {
  CHECK(!experts.empty() && scores.cols == static_cast<int64_t>(experts.size()));
  if (x.rows == 0) return absl::OkStatus();
  MixExpertsArgs args;
  args.x = x, args.scores = scores, args.out = out;
  ASSIGN_OR_RETURN(args.experts, Table(experts));
  args.num_experts = static_cast<int>(experts.size());
  args.ffn = experts[0].gate_up->out() / 2;
  args.choice = choice;
  args.stored = MatrixOf(*experts[0].gate_up).stored;
  const int64_t bytes = ExpertScratchBytes(args);
  RETURN_IF_ERROR(expert_scratch_.Reserve(static_cast<size_t>(bytes), stream_, &moved_));
  args.scratch = expert_scratch_.data();
  cuda::MixExperts(args, stream_);
  return absl::OkStatus();
}

// Made once for each layer, in its first step (which is never a recorded one).
absl::StatusOr<const ExpertMatrices*> Products::Table(const std::vector<ExpertWeights>& experts) {
  DeviceMemory& table = tables_[static_cast<const CudaWeight*>(experts[0].gate_up)->serial];
  if (!table) {
    std::vector<ExpertMatrices> matrices;
    for (const ExpertWeights& expert : experts) {
      matrices.push_back({MatrixOf(*expert.gate_up), MatrixOf(*expert.down)});
    }
    const size_t bytes = matrices.size() * sizeof(ExpertMatrices);
    ASSIGN_OR_RETURN(table, AllocateDevice(bytes, "a table of experts"));
    RETURN_IF_ERROR(StatusOf(
        cudaMemcpyAsync(table.get(), matrices.data(), bytes, cudaMemcpyHostToDevice, stream_),
        "a table of experts"));
    RETURN_IF_ERROR(StatusOf(cudaStreamSynchronize(stream_), "a table of experts"));
  }
  return static_cast<const ExpertMatrices*>(table.get());
}

}  // namespace conclave::worker::cuda
