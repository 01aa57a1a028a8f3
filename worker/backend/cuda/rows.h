#pragma once

#include "common/types.h"
#include "worker/backend/cuda/batch_view.h"
#include "worker/backend/cuda/matrix.h"
#include "worker/backend/cuda/platform.h"
#include "worker/backend/tensor.h"

namespace conclave::worker::cuda {

// Small operations on every row alone. Types: x is f32 or bf16; sums are f32, in an order that the
// width alone fixes.

// Every head of every row alone (heads = 1: the whole row): out = x * rsqrt(mean(x^2) + eps) * gain
// [cols / heads]; out may be x. x f32 or bf16, out f32 or bf16; both may be strided (q and k are
// columns of one product's output). Heads are at most 16,384 wide.
void RmsNorm(Tensor x, int heads, const float* gain, float eps, Tensor out, cudaStream_t stream);
// x += y (+ bias [D] when it is given). x f32, y f32 or bf16.
void Add(Tensor x, Tensor y, const float* bias, cudaStream_t stream);
// x += bias [D]. x f32 or bf16.
void AddBias(Tensor x, const float* bias, cudaStream_t stream);
// out [N, F] = silu(both[:, :F]) * both[:, F:]; both [N, 2F], out of the same type.
void SiluMul(Tensor both, Tensor out, cudaStream_t stream);
// out[n] = row tokens[n] - first of the table (out of f32), zeros when it is not there; a token
// below 0 is one that was drawn.
void Embed(const BatchView& batch, TokenId first, const Matrix& table, Tensor out,
           cudaStream_t stream);
// out[i] = x[logits[i]]. Both of one type.
void SelectRows(const BatchView& batch, Tensor x, Tensor out, cudaStream_t stream);
// Rotates q [N, H*E] in place and k [N, K*E] on its way to the pool (the tensor stays as it is), in
// halves by cos, sin [positions][E / 2], and writes k and v to their places in the pool, rounded
// once to its type; e4m3 saturates. q, k and v are of one type. Positions, tables, cos and sin are
// read while earlier kernels may still run: copies write them, kernels never do.
void RopeStore(const BatchView& batch, Tensor q, Tensor k, Tensor v, const float* cos,
               const float* sin, const KvView& kv, cudaStream_t stream);
// The first `tokens` tokens of block `from` to block `to`, in `layers` layers that lie
// `layer_stride` elements apart.
struct BlockCopyArgs {
  int32_t from = 0, to = 0, tokens = 0;
};
void CopyBlock(const KvView& first_layer, int layers, int64_t layer_stride, BlockCopyArgs copy,
               cudaStream_t stream);
// x = the sum of `size` ranks' parts [size][count], in rank order. x may be one of them.
void SumRanks(const float* parts, int size, int64_t count, float* x, cudaStream_t stream);

}  // namespace conclave::worker::cuda
