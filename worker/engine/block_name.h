#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "common/types.h"
#include "worker/step.h"

namespace conclave::worker {

// What a block of KV holds, by content: a chain of SHA-256, truncated to 128 bits, over the salt,
// the group's arithmetic and every token up to the block's last. Equal names mean equal bytes, in
// every process.
struct BlockName {
  uint64_t high = 0, low = 0;

  bool operator==(const BlockName&) const = default;
};

// A name is as good as random: its own bits are its hash.
struct BlockNameHash {
  size_t operator()(const BlockName& name) const { return name.low; }
};

// The name in front of the first block. Different salts, weights, arithmetic or degrees of tensor
// parallelism never meet.
BlockName RootName(std::string_view salt, const GroupShape& shape);

// The name of what follows `parent`: a block's 16 tokens, or the fewer of a sequence's tail (which
// never equals a full block's name).
BlockName NextName(const BlockName& parent, std::span<const TokenId> tokens);

}  // namespace conclave::worker
