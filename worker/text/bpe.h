#pragma once

#include <absl/container/flat_hash_map.h>
#include <absl/status/status.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/types.h"

namespace conclave::worker {

// Byte pair encoding (Sennrich et al., 2016): a word begins as its bytes (GPT-2's form) or its
// characters (SentencePiece's), and the neighbours with the lowest rank merge until none can.
// Immutable once built.
class Bpe {
 public:
  enum class Symbols { kBytes, kCharacters };  // What a word begins as.

  // What becomes of a character that is no token.
  struct Unknown {
    bool byte_fallback = false;  // The tokens "<0x00>" to "<0xFF>" of its bytes, if all are there.
    TokenId token = -1;          // Else this one; -1: it is left out.
    bool fuse = false;           // One for several in a row.
  };

  Bpe() = default;
  // Moves only: the views below would look into the copied-from object.
  Bpe(Bpe&&) = default;
  Bpe& operator=(Bpe&&) = default;

  // `bytes[id]` is a token's bytes (kCharacters: its spelling); empty where an id has none of its
  // own.
  void SetVocabulary(std::vector<std::string> bytes, Symbols symbols);
  // A byte that UTF-8 uses and that has no token; -1 when each has one.
  int MissingByte() const;
  void set_unknown(Unknown unknown) { unknown_ = unknown; }
  // Merges must come in order of rank. REQUIRES: ids are tokens of the vocabulary.
  void AddMerge(TokenId left, TokenId right, TokenId merged);
  // These tokens never come out: they are written as the parts that make them.
  void Withhold(TokenId id);
  // A word that is itself a token needs no merges.
  void set_whole_words_first(bool value) { whole_words_first_ = value; }

  // Appends the tokens of a word, which is valid UTF-8 for kCharacters. O(n log n) in its bytes: at
  // most three merges are tried for each, and their number is returned.
  size_t Encode(std::string_view word, std::vector<TokenId>& out) const;

  std::string_view bytes(TokenId id) const;
  TokenId size() const { return static_cast<TokenId>(bytes_.size()); }
  // -1 when no token has these bytes.
  TokenId Find(std::string_view bytes) const;

 private:
  struct Merge {
    int32_t rank = 0;
    TokenId id = 0;
  };
  class Word;

  void Emit(TokenId id, std::vector<TokenId>& out) const;

  std::vector<std::string> bytes_;
  absl::flat_hash_map<absl::string_view, TokenId> by_bytes_;  // Views into bytes_.
  absl::flat_hash_map<uint64_t, Merge> merges_;               // By (left, right).
  absl::flat_hash_map<TokenId, std::pair<TokenId, TokenId>> parts_;
  std::vector<bool> withheld_;
  Symbols symbols_ = Symbols::kBytes;
  Unknown unknown_;
  std::array<TokenId, 256> by_byte_{};  // kBytes: the byte; kCharacters: "<0x..>".
  bool whole_words_first_ = false;
};

}  // namespace conclave::worker
