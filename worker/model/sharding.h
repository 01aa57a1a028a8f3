#pragma once

#include <absl/status/statusor.h>

#include <cstdint>

#include "worker/model/config.h"

namespace conclave::worker {

// A half-open range of a dimension.
struct Span {
  int begin = 0, end = 0;
  int size() const { return end - begin; }
};

// What one tensor-parallel rank holds of a decoder.
struct Shard {
  Span heads;       // Query heads.
  Span kv_heads;    // Copied to several ranks where there are more ranks than KV heads.
  Span ffn;         // Of a layer's one MLP; empty when all layers are mixtures of experts.
  Span expert_ffn;  // Of every expert: ranks hold a part of each.
  Span vocab;  // Padded: ranks hold equally many ids, the last ones may hold fewer real ones, or
               // none.
  int vocab_width = 0;  // The padded size of a rank's part, the same on all.
};

// kInvalidArgument names the dimension that does not divide, with the numbers.
absl::StatusOr<Shard> ShardOf(const ModelConfig& model, int rank, int size);

}  // namespace conclave::worker
