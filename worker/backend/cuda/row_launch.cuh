#pragma once

#include "common/check.h"
#include "worker/backend/cuda/linear_rows.h"
#include "worker/backend/cuda/matrix.h"
#include "worker/backend/cuda/plain_product.cuh"
#include "worker/backend/cuda/row_plan.h"
#include "worker/backend/cuda/row_product.cuh"
#include "worker/backend/cuda/shared_memory.h"
#include "worker/backend/tensor.h"

// Which kernel serves a product of rows, and with what shape.
namespace conclave::worker::cuda {

template <typename Chunk>
constexpr int64_t ProductSteps(int64_t in) {
  constexpr int kStepNumbers = Chunk::kNumbers * kStepBytes / 16;
  return (in + kStepNumbers - 1) / kStepNumbers;
}

template <typename Chunk>
RowPlan PlanOf(int64_t in, int64_t w_rows, int64_t rows) {
  return PlanRows(w_rows, ProductSteps<Chunk>(in), rows, Chunk::kNumbers,
                  static_cast<int64_t>(MostShared()));
}

// Whether a block has room for one row's ring and for the row, normed.
template <typename Chunk>
bool HasRoomToNorm(const Matrix& w) {
  const RowPlan plan = PlanOf<Chunk>(w.in, w.out, 1);
  const int64_t ring = int64_t{plan.stages} * plan.warps * plan.row_tiles * 16 * kStepBytes;
  return static_cast<size_t>(ring + w.in * 2 + 1024) <= MostShared();
}

template <typename Chunk, int kTokenTiles, int kRowTiles, int kStages, bool kGateUp,
          bool kNormed = false>
void LaunchTiles(const RowProduct& product, int warps, cudaStream_t stream) {
  constexpr int kOuts = kRowTiles * (kGateUp ? 8 : 16);
  const int64_t steps = ProductSteps<Chunk>(product.in);
  LaunchShape shape;
  shape.grid = dim3((product.outs + kOuts - 1) / kOuts);
  shape.block = dim3(warps * 32);
  shape.shared_bytes = ProductMemory<kTokenTiles, kRowTiles, kStages>::Bytes(warps, steps) +
                       static_cast<size_t>(product.normed_bytes());
  shape.stream = stream;
  shape.early = true;
  shape.once = product.w;
  shape.once_bytes = static_cast<size_t>(product.row_bytes * product.outs * (kGateUp ? 2 : 1));
  Launch(RowProductKernel<Chunk, kTokenTiles, kRowTiles, kStages, kGateUp, kNormed>, shape,
         product);
}

// Token tiles that one launch serves at most: what the registers allow.
template <typename Chunk>
constexpr int MostTokenTiles(int row_tiles) {
  const int tiles = row_tiles * 64 / Chunk::kNumbers;
  return tiles < 8 ? tiles : 8;
}

// One pass, of the token tiles that its rows need: kMost at most.
template <typename Chunk, int kRowTiles, int kStages, int kMost, bool kGateUp>
void LaunchPass(const RowProduct& product, int warps, cudaStream_t stream) {
  if (product.rows <= 8) {
    LaunchTiles<Chunk, 1, kRowTiles, kStages, kGateUp>(product, warps, stream);
  } else if (product.rows <= 16) {
    LaunchTiles<Chunk, 2, kRowTiles, kStages, kGateUp>(product, warps, stream);
  } else if constexpr (kMost >= 4) {
    if (product.rows <= 32) {
      LaunchTiles<Chunk, 4, kRowTiles, kStages, kGateUp>(product, warps, stream);
    } else if constexpr (kMost >= 8) {
      LaunchTiles<Chunk, 8, kRowTiles, kStages, kGateUp>(product, warps, stream);
    }
  }
}

template <typename Chunk, bool kGateUp>
void LaunchPlanned(const RowProduct& product, const RowPlan& plan, cudaStream_t stream) {
  if (plan.row_tiles == 4) {
    if constexpr (Chunk::kNumbers == 8) {
      LaunchTiles<Chunk, 8, 4, 2, kGateUp>(product, plan.warps, stream);
    }
  } else if (plan.row_tiles == 2) {
    LaunchPass<Chunk, 2, 3, MostTokenTiles<Chunk>(2), kGateUp>(product, plan.warps, stream);
  } else if (plan.stages == 4) {
    LaunchPass<Chunk, 1, 4, 2, kGateUp>(product, plan.warps, stream);
  } else {
    LaunchPass<Chunk, 1, 3, MostTokenTiles<Chunk>(1), kGateUp>(product, plan.warps, stream);
  }
}

template <typename Chunk, bool kGateUp>
void LaunchPasses(const RowProduct& product, int64_t rows, int64_t w_rows, size_t out_bytes,
                  cudaStream_t stream) {
  for (int64_t first = 0; first < rows;) {
    const RowPlan plan = PlanOf<Chunk>(product.in, w_rows, rows - first);
    const int64_t most = 8 * MostTokenTiles<Chunk>(plan.row_tiles);
    RowProduct pass = product;
    pass.x += first * product.x_stride;
    pass.out = static_cast<char*>(product.out) +
               static_cast<size_t>(first * product.out_stride) * out_bytes;
    pass.rows = static_cast<int32_t>(rows - first < most ? rows - first : most);
    LaunchPlanned<Chunk, kGateUp>(pass, plan, stream);
    first += most;
  }
}

// One row that the product norms itself, in the same shape as without: so with the same bits.
template <typename Chunk, bool kGateUp>
void LaunchNormed(const RowProduct& product, int64_t w_rows, cudaStream_t stream) {
  const RowPlan plan = PlanOf<Chunk>(product.in, w_rows, 1);
  if (plan.row_tiles == 2) {
    LaunchTiles<Chunk, 1, 2, 3, kGateUp, true>(product, plan.warps, stream);
  } else if (plan.stages == 4) {
    LaunchTiles<Chunk, 1, 1, 4, kGateUp, true>(product, plan.warps, stream);
  } else {
    LaunchTiles<Chunk, 1, 1, 3, kGateUp, true>(product, plan.warps, stream);
  }
}

// What a product of rows knows of its weight and where it writes.
inline RowProduct ProductOf(const Matrix& w, int64_t outs, const Tensor& out, const float* bias) {
  RowProduct product;
  product.w = static_cast<const unsigned char*>(w.data);
  product.row_bytes = w.stored == Stored::kBF16   ? w.stride * 2
                      : w.stored == Stored::kE4M3 ? w.stride
                                                  : w.stride / 2;
  product.in = static_cast<int32_t>(w.in);
  product.outs = static_cast<int32_t>(outs);
  product.scales = w.scales;
  product.out = out.data;
  product.out_stride = out.stride;
  product.out_bf16 = out.dtype == DType::kBF16;
  product.bias = bias;
  return product;
}

template <bool kGateUp>
void LaunchNormedProduct(const Tensor& x, const RowNorm& norm, const Matrix& w, const Tensor& out,
                         const float* bias, cudaStream_t stream) {
  const int64_t outs = kGateUp ? w.out / 2 : w.out;
  if (outs == 0) return;
  CHECK(CanNorm(x, norm, w) && out.cols == outs && out.rows == 1);
  RowProduct product = ProductOf(w, outs, out, bias);
  product.unnormed = static_cast<const float*>(x.data);
  product.gain = norm.gain;
  product.eps = norm.eps;
  product.rows = 1;
  if (w.stored == Stored::kBF16) {
    LaunchNormed<Bf16Chunk, kGateUp>(product, w.out, stream);
  } else if (w.stored == Stored::kE4M3) {
    LaunchNormed<E4m3Chunk, kGateUp>(product, w.out, stream);
  } else {
    LaunchNormed<Int4Chunk, kGateUp>(product, w.out, stream);
  }
}

// Any number of rows. f32 x, an f32 weight, and rows that are no multiple of 16 bytes go to the
// plain kernel.
template <bool kGateUp>
void LaunchProduct(const Tensor& x, const Matrix& w, const Tensor& out, const float* bias, bool add,
                   cudaStream_t stream) {
  const int64_t outs = kGateUp ? w.out / 2 : w.out;
  if (x.rows == 0 || outs == 0) return;
  CHECK(x.cols == w.in && out.cols == outs && out.rows == x.rows);
  CHECK(!add || out.dtype == DType::kF32);
  if (x.dtype == DType::kF32 || w.stored == Stored::kF32 || w.in % 8 != 0) {
    LaunchPlain<kGateUp>({x, w, out, bias, add}, stream);
    return;
  }
  CHECK(x.stride % 8 == 0);  // Rows of x begin at multiples of 16 bytes.
  RowProduct product = ProductOf(w, outs, out, bias);
  product.x = static_cast<const __nv_bfloat16*>(x.data);
  product.x_stride = x.stride;
  product.add = add;
  const size_t out_bytes = BytesOf(out.dtype);
  if (w.stored == Stored::kBF16) {
    LaunchPasses<Bf16Chunk, kGateUp>(product, x.rows, w.out, out_bytes, stream);
  } else if (w.stored == Stored::kE4M3) {
    LaunchPasses<E4m3Chunk, kGateUp>(product, x.rows, w.out, out_bytes, stream);
  } else {
    LaunchPasses<Int4Chunk, kGateUp>(product, x.rows, w.out, out_bytes, stream);
  }
}

}  // namespace conclave::worker::cuda
