#pragma once

#include <absl/container/flat_hash_map.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/types.h"
#include "worker/text/marked_string.h"

namespace conclave::worker {

// A token that is not made by merging: "<|im_end|>". Fields as tokenizer.json names them.
struct AddedToken {
  TokenId id = 0;
  std::string content;
  bool special = false;
  bool single_word = false;             // Not inside a word.
  bool lstrip = false, rstrip = false;  // Swallows the white space on this side.
  bool normalized = false;              // Looked for after normalisation.
  bool in_vocabulary = false;           // The model has a token of this spelling.
};

// Finds added tokens in a text, leftmost first, then longest: a trie over their bytes.
class AddedTokenFinder {
 public:
  // REQUIRES: the token's content is not empty.
  void Add(AddedToken token);
  bool empty() const { return tokens_.empty(); }

  // A stretch [begin, end) of the text: a token, or ordinary text between tokens.
  struct Stretch {
    size_t begin = 0, end = 0;
    std::optional<TokenId> token;
  };
  // Cuts the whole text. A token is made only of bytes that the template wrote, the white space
  // that it swallows included.
  std::vector<Stretch> Cut(const MarkedString& text) const;

 private:
  const AddedToken* LongestAt(std::string_view text, size_t at) const;

  std::vector<AddedToken> tokens_;
  std::array<bool, 256> starts_{};                    // Bytes that tokens begin with.
  absl::flat_hash_map<uint64_t, uint32_t> children_;  // (node, byte) -> node. Node 0 is the root.
  std::vector<int32_t> token_at_ = {-1};              // By node: index into tokens_, or -1.
};

}  // namespace conclave::worker
