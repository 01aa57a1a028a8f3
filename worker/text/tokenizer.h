#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/types.h"
#include "worker/text/marked_string.h"

namespace conclave::worker {

// Text to token ids and back, as a Hugging Face tokenizer.json says: byte pair encoding, byte-level
// or in SentencePiece's manner. Immutable, so any thread may use it.
class Tokenizer {
 public:
  // Greatest text in bytes that is encoded in one call, and greatest tokenizer.json.
  static constexpr size_t kMaxTextBytes = size_t{4} << 20;
  static constexpr size_t kMaxFileBytes = size_t{64} << 20;

  // Reads dir/tokenizer.json. kNotFound, or kInvalidArgument naming file and JSON path;
  // kUnimplemented names the construct that is not supported.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const std::filesystem::path& dir);
  // The same for a file's bytes; `name` stands in errors.
  static absl::StatusOr<std::unique_ptr<Tokenizer>> Parse(std::string_view json,
                                                          const std::string& name);
  ~Tokenizer();

  // Added tokens ("<|im_end|>", "<think>") are made only from bytes that the template wrote; the
  // caller's bytes are always ordinary text. kInvalidArgument: not UTF-8; kResourceExhausted: too
  // long, or its pattern takes too much (both named). No token is put in front or behind.
  absl::StatusOr<std::vector<TokenId>> Encode(const MarkedString& text) const;
  // A caller's text: never an added token.
  absl::StatusOr<std::vector<TokenId>> Encode(std::string_view text) const;
  // All of it as if the template had written it.
  absl::StatusOr<std::vector<TokenId>> EncodeWithSpecials(std::string_view text) const;

  // What a text gets around it when no chat template has written it (a base model's prompt): the
  // post processor's tokens, such as <s>.
  const std::vector<TokenId>& front() const;
  const std::vector<TokenId>& back() const;

  // What the tokens say, special ones left out, invalid bytes as U+FFFD: what IncrementalDecoder
  // releases for them, flushed. (Hugging Face's ByteFallback replaces every byte of a run of byte
  // tokens that holds one invalid byte: that cannot be known while a text is streamed.)
  std::string Decode(const std::vector<TokenId>& ids) const;

  // One past the greatest id. Ids in between without a token have no bytes.
  int vocab_size() const;
  // The bytes that a token says, added ones as their content. Empty for an unknown id.
  std::string_view token_bytes(TokenId id) const;
  // Special: produces no text. Not special: "<think>" in many models.
  bool is_special(TokenId id) const;
  // An added token: made from the template's bytes only.
  bool is_added(TokenId id) const;
  // The token that is this very text: an added token, or a token with these bytes.
  std::optional<TokenId> IdOf(std::string_view content) const;

  class Tables;

 private:
  friend class IncrementalDecoder;
  explicit Tokenizer(std::unique_ptr<const Tables> tables);
  std::unique_ptr<const Tables> tables_;
};

// Turns UTF-8 that comes in pieces into whole characters. Bytes that can never become one are
// replaced by U+FFFD, one for each maximal prefix of a character (as Unicode recommends, and as
// Python and Rust do). A value.
class Utf8Assembler {
 public:
  // Appends to `out` what `bytes` decides; keeps at most 3 bytes back.
  void Feed(std::string_view bytes, std::string& out);
  // Half a character becomes U+FFFD.
  void Flush(std::string& out);

 private:
  std::string half_;
};

// Feeds on one agent's token ids; what it releases after each is a function of the ids alone and
// always whole characters. Special tokens release nothing. What the file strips at the start of a
// text (SentencePiece's space) goes once, at the start of the agent's. Not thread-safe; `tokenizer`
// must outlive it.
class IncrementalDecoder {
 public:
  explicit IncrementalDecoder(const Tokenizer& tokenizer);

  std::string Feed(TokenId id);
  // The same for a text that stands in for a token.
  std::string FeedText(std::string_view bytes);
  // What was kept back, as U+FFFD.
  std::string Flush();

 private:
  // Takes off `text` what is stripped at the start.
  std::string Stripped(std::string text);

  const Tokenizer* tokenizer_;
  Utf8Assembler assembler_;
  bool first_ = true;  // No token has said anything yet.
  int strip_left_;     // Characters that still go.
};

}  // namespace conclave::worker
