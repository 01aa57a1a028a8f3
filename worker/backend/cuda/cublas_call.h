#pragma once

#include <absl/status/status.h>
#include <cublasLt.h>

#include <cstdint>
#include <string_view>

#include "common/status.h"
#include "worker/backend/cuda/matrix.h"
#include "worker/backend/tensor.h"

namespace conclave::worker::cuda {

inline absl::Status StatusOf(cublasStatus_t status, std::string_view what) {
  if (status == CUBLAS_STATUS_SUCCESS) return absl::OkStatus();
  if (status == CUBLAS_STATUS_ALLOC_FAILED) return ResourceExhausted("{}: out of GPU memory", what);
  return Internal("{}: {}", what, cublasLtGetStatusString(status));
}

// One product x W^T of bf16 as cuBLASLt sees it: column-major out^T [O, N] = W [K, O]^T x^T [K, N].
struct CublasCall {
  cublasLtMatmulDescOpaque_t operation = {};
  cublasLtMatrixLayoutOpaque_t w = {}, x = {}, out = {};

  // Looks at shapes alone.
  absl::Status Describe(const Matrix& matrix, Tensor x_rows, Tensor out_rows) {
    const cudaDataType_t out_type = out_rows.dtype == DType::kF32 ? CUDA_R_32F : CUDA_R_16BF;
    const uint64_t k = static_cast<uint64_t>(matrix.in), o = static_cast<uint64_t>(matrix.out);
    const uint64_t n = static_cast<uint64_t>(x_rows.rows);
    const cublasOperation_t transposed = CUBLAS_OP_T, plain = CUBLAS_OP_N;
    cublasStatus_t status = cublasLtMatmulDescInit(&operation, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    const auto then = [&](cublasStatus_t next) {
      if (status == CUBLAS_STATUS_SUCCESS) status = next;
    };
    then(cublasLtMatmulDescSetAttribute(&operation, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                        sizeof transposed));
    then(cublasLtMatmulDescSetAttribute(&operation, CUBLASLT_MATMUL_DESC_TRANSB, &plain,
                                        sizeof plain));
    then(cublasLtMatrixLayoutInit(&w, CUDA_R_16BF, k, o, matrix.stride));
    then(cublasLtMatrixLayoutInit(&x, CUDA_R_16BF, k, n, x_rows.stride));
    then(cublasLtMatrixLayoutInit(&out, out_type, o, n, out_rows.stride));
    return StatusOf(status, "cuBLASLt refuses a shape");
  }
};

}  // namespace conclave::worker::cuda
