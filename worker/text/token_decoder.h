#pragma once

#include <absl/status/statusor.h>

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace conclave::worker {

// What tokens say: the member "decoder" of a tokenizer.json. Everything but the rule for the start
// of a text is settled token by token, when the file is loaded. Immutable: any thread.
class TokenDecoder {
 public:
  // `byte_level`: the vocabulary spells bytes. kInvalidArgument, or kUnimplemented for what cannot
  // be decoded token by token; both name the JSON path.
  static absl::StatusOr<TokenDecoder> Parse(const nlohmann::json& node, bool byte_level);

  // The bytes of a vocabulary's entry ("\xE2\x96\x81the" says " the", "<0x0A>" one byte). An entry
  // of a byte-level vocabulary outside of its alphabet means itself.
  std::string BytesOf(const std::string& entry) const;
  // The same for the first token of a text.
  std::string FirstBytesOf(const std::string& entry) const;
  // Whether the two may differ.
  bool drops_first_mark() const { return !first_mark_.empty(); }

  // How many of these characters go at the start of a text.
  int strip_count() const { return strip_count_; }
  char strip_character() const { return strip_character_; }

 private:
  struct Reader;

  bool byte_level_ = false, byte_fallback_ = false;
  std::vector<std::pair<std::string, std::string>> replaced_;  // From, to: in order.
  std::string first_mark_;  // Goes where it stands in the first token.
  int strip_count_ = 0;
  char strip_character_ = ' ';
};

}  // namespace conclave::worker
