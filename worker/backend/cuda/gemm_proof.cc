#include "worker/backend/cuda/gemm_proof.h"

#include <algorithm>

#include "common/status.h"
#include "worker/backend/cuda/row_hash.h"

namespace conclave::worker::cuda {
namespace {

constexpr int64_t kGuardRows = 64;  // Behind the last row: they must stay as they are.
constexpr uint32_t kXSeed = 1, kOutSeed = 2;

absl::Status StatusOf(cudaError_t error) {
  if (error == cudaSuccess) return absl::OkStatus();
  (void)cudaGetLastError();
  if (error == cudaErrorMemoryAllocation) {
    return ResourceExhausted("no GPU memory to prove products");
  }
  return Internal("{}", cudaGetErrorString(error));
}

// Numbers of rows on both sides of what tiles and waves of tiles are made of.
std::vector<int64_t> Companies(int64_t most) {
  std::vector<int64_t> companies;
  for (const int64_t rows : {1, 2, 7, 8, 17, 64, 65, 100, 129, 200, 256, 300, 511, 777, 1100}) {
    if (rows < most) companies.push_back(rows);
  }
  if (most > 1) companies.push_back(most - 1);
  return companies;
}

// Of `add`.
std::vector<bool> Modes(DType out) {
  return out == DType::kF32 ? std::vector<bool>{false, true} : std::vector<bool>{false};
}

}  // namespace

absl::StatusOr<std::unique_ptr<GemmProof>> GemmProof::Make(const Shape& shape) {
  std::unique_ptr<GemmProof> proof(new GemmProof(shape));
  RETURN_IF_ERROR(proof->Allocate());
  return proof;
}

GemmProof::~GemmProof() {
  if (begin_ != nullptr) (void)cudaEventDestroy(begin_);
  if (end_ != nullptr) (void)cudaEventDestroy(end_);
  if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
}

absl::Status GemmProof::Allocate() {
  const auto take = [](Memory& memory, int64_t bytes) {
    void* data = nullptr;
    const cudaError_t error = cudaMalloc(&data, static_cast<size_t>(bytes));
    if (error == cudaSuccess) memory.reset(data);
    return StatusOf(error);
  };
  const int64_t rows = shape_.rows + kGuardRows;
  const Tensor x = X(0, shape_.rows), out = Out(rows);
  RETURN_IF_ERROR(take(x_, rows * x.stride * 2));
  RETURN_IF_ERROR(take(out_, rows * out.stride * static_cast<int64_t>(BytesOf(out.dtype))));
  RETURN_IF_ERROR(take(hashes_, rows * static_cast<int64_t>(sizeof(uint2))));
  RETURN_IF_ERROR(StatusOf(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)));
  RETURN_IF_ERROR(StatusOf(cudaEventCreate(&begin_)));
  RETURN_IF_ERROR(StatusOf(cudaEventCreate(&end_)));
  // Padding of a row may be read, and must be finite: fill it too.
  Tensor all = X(0, shape_.rows);
  all.cols = all.stride;
  FillRows(all, kXSeed, 0, stream_);
  return StatusOf(cudaStreamSynchronize(stream_));
}

Tensor GemmProof::X(int64_t first, int64_t rows) const {
  Tensor x = Tensor::Dense(x_.get(), DType::kBF16, shape_.rows, shape_.in);
  x.stride = (shape_.in + 7) / 8 * 8;
  return x.Rows(first, rows);
}

Tensor GemmProof::Out(int64_t rows) const {
  return Tensor::Dense(out_.get(), shape_.type, rows, shape_.out);
}

absl::Status GemmProof::Hash(Tensor from, std::vector<uint64_t>* hashes) {
  hashes->resize(static_cast<size_t>(from.rows));
  HashRows(from, static_cast<uint2*>(hashes_.get()), stream_);
  RETURN_IF_ERROR(StatusOf(cudaMemcpyAsync(hashes->data(), hashes_.get(), hashes->size() * 8,
                                           cudaMemcpyDeviceToHost, stream_)));
  return StatusOf(cudaStreamSynchronize(stream_));
}

absl::StatusOr<GemmProof::Hashes> GemmProof::RunRows(const Product& product, bool add,
                                                     int64_t first, int64_t rows) {
  Hashes hashes;
  FillRows(Out(rows + kGuardRows), kOutSeed, first, stream_);
  RETURN_IF_ERROR(Hash(Out(rows + kGuardRows), &hashes.before));
  RETURN_IF_ERROR(product(X(first, rows), Out(rows), add, stream_));
  RETURN_IF_ERROR(Hash(Out(rows + kGuardRows), &hashes.after));
  return hashes;
}

absl::Status GemmProof::CheckCompany(const Product& product, bool add, int64_t first, int64_t rows,
                                     const std::vector<uint64_t>& expected) {
  ASSIGN_OR_RETURN(const Hashes hashes, RunRows(product, add, first, rows));
  for (int64_t r = 0; r < rows + kGuardRows; ++r) {
    const size_t at = static_cast<size_t>(r);
    if (r >= rows && hashes.after[at] != hashes.before[at]) {
      return Internal("with {} rows it writes row {}", rows, r);
    }
    if (r < rows && hashes.after[at] != expected[static_cast<size_t>(first + r)]) {
      return Internal("row {} has other bits as row {} of {} than as one of {}", first + r, r, rows,
                      shape_.rows);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> GemmProof::Digest(const Product& product) {
  uint64_t digest = 0;
  for (const bool add : Modes(shape_.type)) {
    ASSIGN_OR_RETURN(const Hashes all, RunRows(product, add, 0, shape_.rows));
    for (int64_t r = 0; r < shape_.rows; ++r) {
      digest = (digest ^ all.after[static_cast<size_t>(r)]) * 0x9e3779b97f4a7c15u;
      digest ^= digest >> 32;
    }
  }
  return digest;
}

absl::Status GemmProof::Check(const Product& product) {
  for (const bool add : Modes(shape_.type)) {
    ASSIGN_OR_RETURN(const Hashes all, RunRows(product, add, 0, shape_.rows));
    if (all.after[0] == all.before[0]) return Internal("it computes nothing");
    RETURN_IF_ERROR(CheckCompany(product, add, 0, shape_.rows, all.after));
    for (const int64_t rows : Companies(shape_.rows)) {
      const int64_t last = shape_.rows - rows;
      // At the front, at an odd place, and as the last rows.
      for (const int64_t first : {int64_t{0}, std::min(last, rows * 3 / 2 + 1), last}) {
        RETURN_IF_ERROR(CheckCompany(product, add, first, rows, all.after));
      }
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<float> GemmProof::Milliseconds(const Product& product) {
  const bool add = shape_.type == DType::kF32;
  RETURN_IF_ERROR(product(X(0, shape_.rows), Out(shape_.rows), add, stream_));  // Loads the kernel.
  float best = 0;
  for (int i = 0; i < 3; ++i) {
    RETURN_IF_ERROR(StatusOf(cudaEventRecord(begin_, stream_)));
    RETURN_IF_ERROR(product(X(0, shape_.rows), Out(shape_.rows), add, stream_));
    RETURN_IF_ERROR(StatusOf(cudaEventRecord(end_, stream_)));
    RETURN_IF_ERROR(StatusOf(cudaEventSynchronize(end_)));
    float milliseconds = 0;
    RETURN_IF_ERROR(StatusOf(cudaEventElapsedTime(&milliseconds, begin_, end_)));
    best = i == 0 ? milliseconds : std::min(best, milliseconds);
  }
  return best;
}

}  // namespace conclave::worker::cuda
