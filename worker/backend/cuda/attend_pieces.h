#pragma once

#include <cstdint>

#include "worker/backend/cuda/attend.h"

// Parts of AttendDecode: the pieces by two kinds of kernels, and their merge.
namespace conclave::worker::cuda {

// What the kernels of pieces are given.
struct PieceArgs {
  const DecodeItem* items = nullptr;
  const int32_t* item_rows = nullptr;
  const int32_t* blocks = nullptr;
  const void* q = nullptr;  // Of the first produced row.
  int64_t q_stride = 0;
  const void* keys = nullptr;
  const void* values = nullptr;
  int64_t block_stride = 0;
  int kv_heads = 0, group = 0, head_width = 0;  // `group`: query heads of one KV head.
  int max_pieces = 0;
  float scale = 1;
  float* sums = nullptr;    // [row][head][max_pieces][E]
  float2* stats = nullptr;  // [row][head][max_pieces]: scaled greatest score, sum of weights.
  // Not null where each row is one piece, and the pieces' kernel makes the result itself.
  __nv_bfloat16* out = nullptr;  // Of the first produced row.
  int64_t out_stride = 0;
};

// Without `out`.
PieceArgs PiecesOf(const AttendArgs& args);

// Which of the parts is (row, head, piece)'s.
__host__ __device__ inline int64_t PartOf(const PieceArgs& args, int row, int head, int piece) {
  return (int64_t{row} * args.kv_heads * args.group + head) * args.max_pieces + piece;
}

// The result, of a sum of all pieces: the same bits from whichever kernel. Never -0 for 0.
__device__ inline float MergedOf(float sum, float weights) { return (sum + 0.0f) / weights; }

// Plain arithmetic for any head width and any types: q f32 or bf16, KV as `stored`.
void LaunchPlainPieces(const PieceArgs& args, int num_items, DType q, Stored stored,
                       cudaStream_t stream);

// out[row] of the produced rows, of the parts at `sums` and `stats`.
void LaunchMerge(const AttendArgs& args, const float* sums, const float2* stats,
                 cudaStream_t stream);

}  // namespace conclave::worker::cuda
