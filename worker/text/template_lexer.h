#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <vector>

namespace conclave::worker {

// A piece of a template's source. Between kBegin* and kEnd* stand the tokens of one tag.
struct TemplateToken {
  enum class Kind {
    kText,
    kBeginPrint,
    kEndPrint,
    kBeginBlock,
    kEndBlock,
    kName,
    kString,
    kInteger,
    kFloat,
    kSign
  };
  Kind kind = Kind::kText;
  std::string text;
  int line = 0;

  bool Is(Kind which, std::string_view word) const { return kind == which && text == word; }
};

// Splits a template; comments go, and white space as trim_blocks, lstrip_blocks and '-' say.
// kInvalidArgument: "line N: ..." for a tag or a string without an end, or a stray character.
absl::StatusOr<std::vector<TemplateToken>> LexTemplate(std::string_view source);

}  // namespace conclave::worker
