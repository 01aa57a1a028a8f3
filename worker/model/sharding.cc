#include "worker/model/sharding.h"

#include <algorithm>

#include "common/status.h"

namespace conclave::worker {
namespace {

absl::StatusOr<Span> Divide(const char* what, int total, int rank, int size) {
  if (total % size != 0) {
    return InvalidArgument("{} {} does not divide among {} ranks", what, total, size);
  }
  const int part = total / size;
  return Span{rank * part, (rank + 1) * part};
}

}  // namespace

absl::StatusOr<Shard> ShardOf(const ModelConfig& model, int rank, int size) {
  if (size < 1 || rank < 0 || rank >= size) return InvalidArgument("rank {} of {}", rank, size);
  Shard shard;
  ASSIGN_OR_RETURN(shard.heads, Divide("num_attention_heads", model.heads, rank, size));
  const auto mixture = [](const LayerConfig& layer) { return layer.experts; };
  if (model.experts.count == 0 || !std::all_of(model.layer.begin(), model.layer.end(), mixture)) {
    ASSIGN_OR_RETURN(shard.ffn, Divide("intermediate_size", model.ffn, rank, size));
  }
  if (model.experts.count > 0) {
    ASSIGN_OR_RETURN(shard.expert_ffn,
                     Divide("moe_intermediate_size", model.experts.ffn, rank, size));
  }
  if (size > model.kv_heads && size % model.kv_heads == 0) {
    const int mine = rank / (size / model.kv_heads);
    shard.kv_heads = {mine, mine + 1};
  } else {
    ASSIGN_OR_RETURN(shard.kv_heads, Divide("num_key_value_heads", model.kv_heads, rank, size));
  }
  shard.vocab_width = (model.vocab + size - 1) / size;
  shard.vocab = {std::min(model.vocab, rank * shard.vocab_width),
                 std::min(model.vocab, (rank + 1) * shard.vocab_width)};
  return shard;
}

}  // namespace conclave::worker
