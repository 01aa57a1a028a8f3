#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/prompt.h"

// Prompts and tokens as people and programs read them. Texts are harmless to a terminal, but for
// JSON's.
namespace conclave::cli {

// How tokens are shown.
enum class TokenStyle {
  kTable,  // A line for each: id, what it says in quotes, "control" where it is one.
  kIds     // Their ids on one line.
};
std::string TokensText(const std::vector<PromptToken>& tokens, TokenStyle style, bool color);

// The prompt itself, ending with a line break. In colours control tokens, what the caller wrote and
// the template's words differ.
std::string PromptText(const Prompt& prompt, bool color);

// "57 tokens (6 control), 212 bytes, 17 of them the caller's", and what the colours mean where
// there are any. A line, or two.
std::string PromptSummary(const Prompt& prompt, bool color);

// One JSON object on a line. A prompt: model, text, who wrote which bytes, tokens. Bytes that are
// no UTF-8 become U+FFFD; such a token also has "bytes" in hex.
std::string PromptToJson(const Prompt& prompt, const std::string& model);
std::string TokensToJson(const std::vector<PromptToken>& tokens, std::string_view text);

}  // namespace conclave::cli
