// As much of cuBLASLt as worker/backend/cuda/gemm_cublas.cc uses, in plain loops, for the emulator.
// Its algorithms, in the order in which the heuristic gives them: one that splits K, one whose bits
// depend on the number of rows, one that is right and slow, one that is right, one that sums in
// another order.

#include "tests/fakes/cuda/fake_cublaslt.h"

#include <cublasLt.h>
#include <cuda_bf16.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "worker/backend/cuda/platform.h"

namespace {

using conclave::fakes::CublasAlgorithm;

struct Layout {
  cudaDataType type;
  uint64_t rows, cols;
  int64_t ld;
};
struct Operation {
  cublasOperation_t a = CUBLAS_OP_N, b = CUBLAS_OP_N;
};

template <typename T, typename Opaque>
T& As(Opaque* opaque) {
  static_assert(sizeof(T) <= sizeof(*opaque));
  return *reinterpret_cast<T*>(opaque);
}

float Load(const void* data, const Layout& layout, uint64_t row, uint64_t col) {
  const uint64_t at = col * static_cast<uint64_t>(layout.ld) + row;
  if (layout.type == CUDA_R_32F) return static_cast<const float*>(data)[at];
  return __bfloat162float(static_cast<const __nv_bfloat16*>(data)[at]);
}

void Store(float v, void* data, const Layout& layout, uint64_t row, uint64_t col) {
  const uint64_t at = col * static_cast<uint64_t>(layout.ld) + row;
  if (layout.type == CUDA_R_32F) {
    static_cast<float*>(data)[at] = v;
  } else {
    static_cast<__nv_bfloat16*>(data)[at] = __float2bfloat16(v);
  }
}

struct Product {
  Operation operation;
  float alpha, beta;
  const void *a, *b, *c;
  void* d;
  Layout a_layout, b_layout, d_layout;
  CublasAlgorithm algorithm;
};

void Multiply(const Product& p) {
  const bool a_transposed = p.operation.a == CUBLAS_OP_T;
  const uint64_t depth = a_transposed ? p.a_layout.rows : p.a_layout.cols;
  const bool backwards = p.algorithm == CublasAlgorithm::kOtherOrder ||
                         (p.algorithm == CublasAlgorithm::kByCompany && p.d_layout.cols % 2 == 1);
  for (uint64_t col = 0; col < p.d_layout.cols; ++col) {
    for (uint64_t row = 0; row < p.d_layout.rows; ++row) {
      float sum = 0;
      for (uint64_t i = 0; i < depth; ++i) {
        const uint64_t k = backwards ? depth - 1 - i : i;
        sum += (a_transposed ? Load(p.a, p.a_layout, k, row) : Load(p.a, p.a_layout, row, k)) *
               Load(p.b, p.b_layout, k, col);
      }
      sum *= p.alpha;
      if (p.beta != 0) sum += p.beta * Load(p.c, p.d_layout, row, col);
      Store(sum, p.d, p.d_layout, row, col);
    }
  }
}

int last_algorithm = -1;
int without_memory = -1;  // The algorithm that has none.

}  // namespace

namespace conclave::fakes {
CublasAlgorithm LastCublasAlgorithm() { return static_cast<CublasAlgorithm>(last_algorithm); }
ShortOfMemory::ShortOfMemory(CublasAlgorithm algorithm) {
  without_memory = static_cast<int>(algorithm);
}
ShortOfMemory::~ShortOfMemory() { without_memory = -1; }
}  // namespace conclave::fakes

extern "C" {

size_t cublasLtGetVersion() { return 1; }
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  *handle = reinterpret_cast<cublasLtHandle_t>(&last_algorithm);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t) { return CUBLAS_STATUS_SUCCESS; }
const char* cublasLtGetStatusString(cublasStatus_t) { return "refused"; }

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, size_t,
                                                 cudaDataType type, uint64_t rows, uint64_t cols,
                                                 int64_t ld) {
  As<Layout>(layout) = {type, rows, cols, ld};
  return ld % 8 == 0 || type == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t operation, size_t,
                                               cublasComputeType_t compute, cudaDataType_t scale) {
  As<Operation>(operation) = {};
  return compute == CUBLAS_COMPUTE_32F && scale == CUDA_R_32F ? CUBLAS_STATUS_SUCCESS
                                                              : CUBLAS_STATUS_NOT_SUPPORTED;
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                              cublasLtMatmulDescAttributes_t name,
                                              const void* value, size_t bytes) {
  if (bytes != sizeof(cublasOperation_t)) return CUBLAS_STATUS_INVALID_VALUE;
  auto& to = As<Operation>(operation);
  std::memcpy(name == CUBLASLT_MATMUL_DESC_TRANSA ? &to.a : &to.b, value, bytes);
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t, size_t) {
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
                                                    cublasLtMatmulPreferenceAttributes_t name,
                                                    const void*, size_t bytes) {
  const size_t expected = name == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES ? 8 : 4;
  return bytes == expected ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_INVALID_VALUE;
}
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatrixLayout_t, cublasLtMatrixLayout_t,
                                              cublasLtMatmulPreference_t, int most,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* count) {
  *count = 0;
  for (const CublasAlgorithm algorithm :
       {CublasAlgorithm::kSplitsK, CublasAlgorithm::kByCompany, CublasAlgorithm::kSlow,
        CublasAlgorithm::kRight, CublasAlgorithm::kOtherOrder}) {
    if (*count == most) break;
    results[*count] = {};
    results[*count].algo.data[0] = static_cast<uint64_t>(algorithm);
    ++*count;
  }
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algorithm,
                                                    cublasLtMatmulAlgoConfigAttributes_t name,
                                                    void* value, size_t bytes, size_t* written) {
  const bool shape =
      name == CUBLASLT_ALGO_CONFIG_INNER_SHAPE_ID || name == CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID;
  if (bytes != (shape ? 2 : 4)) return CUBLAS_STATUS_INVALID_VALUE;
  std::memset(value, 0, bytes);
  const bool splits = algorithm->data[0] == static_cast<uint64_t>(CublasAlgorithm::kSplitsK);
  if (name == CUBLASLT_ALGO_CONFIG_SPLITK_NUM) *static_cast<int32_t*>(value) = splits ? 4 : 1;
  *written = bytes;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t operation, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t a_layout, const void* b,
                              cublasLtMatrixLayout_t b_layout, const void* beta, const void* c,
                              cublasLtMatrixLayout_t, void* d, cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void*, size_t,
                              cudaStream_t stream) {
  const Product product = {As<Operation>(operation),
                           *static_cast<const float*>(alpha),
                           *static_cast<const float*>(beta),
                           a,
                           b,
                           c,
                           d,
                           As<Layout>(a_layout),
                           As<Layout>(b_layout),
                           As<Layout>(d_layout),
                           static_cast<CublasAlgorithm>(algorithm->data[0])};
  last_algorithm = static_cast<int>(product.algorithm);
  if (last_algorithm == without_memory) return CUBLAS_STATUS_ALLOC_FAILED;
  conclave::worker::cuda::emulated::SubmitHost(
      [=] {
        if (product.algorithm == CublasAlgorithm::kSlow) {
          std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
        Multiply(product);
      },
      stream);
  return CUBLAS_STATUS_SUCCESS;
}

}  // extern "C"
