#pragma once

#include "worker/backend/cuda/matrix.h"
#include "worker/backend/cuda/platform.h"
#include "worker/backend/device.h"
#include "worker/backend/tensor.h"

namespace conclave::worker::cuda {

// Products for few rows, bound by the weight's bytes. Any number of rows; an output element's order
// of summation is fixed by the weight's shape and format alone, so that a row's bits do not depend
// on the others. x: bf16 [N, in] with a bf16, e4m3 or int4 weight; f32 with an f32 or bf16 weight.
// Rows of a bf16 x begin at multiples of 16 bytes. The weight and the bias are read before earlier
// kernels of the stream are done: what writes them is waited for by the host.
struct LinearRowsArgs {
  Tensor x;
  Matrix w;
  Tensor out;                   // f32 or bf16, [N, out].
  const float* bias = nullptr;  // [out], or null.
  bool add = false;             // out += x W^T + bias (out is f32).
};
void LinearRows(const LinearRowsArgs& args, cudaStream_t stream);

// Whether a product can norm x itself, on its way: one row of f32, and a weight whose x is bf16.
bool CanNorm(const Tensor& x, const RowNorm& norm, const Matrix& w);
// The same bits as RmsNorm of args.x to bf16, then LinearRows without `add`. REQUIRES: CanNorm.
void NormLinearRow(const LinearRowsArgs& args, const RowNorm& norm, cudaStream_t stream);

// out [N, F] = silu(x G^T + bias[:F]) * (x U^T + bias[F:]); w is [G; U], 2F rows.
struct GateUpRowsArgs {
  Tensor x;
  Matrix w;
  Tensor out;                   // The type of x, once normed.
  const float* bias = nullptr;  // [2F], or null.
};
void GateUpRows(const GateUpRowsArgs& args, cudaStream_t stream);
// As NormLinearRow.
void NormGateUpRow(const GateUpRowsArgs& args, const RowNorm& norm, cudaStream_t stream);

}  // namespace conclave::worker::cuda
