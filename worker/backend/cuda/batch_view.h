#pragma once

#include <cstdint>

#include "worker/backend/cuda/matrix.h"

namespace conclave::worker::cuda {

inline constexpr int kKvBlock = 16;  // Tokens in one KV block.

// The rows of a step in device memory. Rows [0, prompt_rows) are prompt rows, the others produced
// ones. A captured batch is padded: its last rows have token 0, position 0 and a table that is the
// pool's scratch block.
struct BatchView {
  int rows = 0, prompt_rows = 0, logits_rows = 0;
  bool apart = false;                  // No row reads what another one stores.
  const int32_t* tokens = nullptr;     // [rows]; t < 0 is drawn[-1 - t].
  const int32_t* positions = nullptr;  // [rows]
  const int32_t* tables = nullptr;     // [rows]: where in `blocks` the row's block table begins.
  const int32_t* blocks = nullptr;     // All block tables, one after another.
  const int32_t* logits = nullptr;     // [logits_rows]: the rows whose logits are wanted.
  const int32_t* drawn = nullptr;      // What the last step drew.
};

// One layer of a KV pool: keys and values are each [block][kv_heads][16][head_width] of `stored`
// (kF32, kBF16 or kE4M3).
struct KvView {
  void* keys = nullptr;
  void* values = nullptr;
  Stored stored = Stored::kBF16;
  int kv_heads = 0, head_width = 0;

  // Elements from one block to the next.
  int64_t block_stride() const { return int64_t{kv_heads} * kKvBlock * head_width; }
};

}  // namespace conclave::worker::cuda
