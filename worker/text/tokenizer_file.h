#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <vector>

#include "worker/text/added_tokens.h"
#include "worker/text/bpe.h"
#include "worker/text/split_pattern.h"

namespace conclave::worker {

// One step of cutting a text into words.
struct SplitStep {
  SplitPattern pattern;
};

// What a tokenizer.json says.
struct TokenizerFile {
  bool nfc = false;               // Texts are composed first (Unicode's NFC).
  std::vector<SplitStep> splits;  // In order.
  bool prefix_space = false;      // A word gets a space in front unless it has one.
  Bpe bpe;
  std::vector<AddedToken> added;
};

// kInvalidArgument: "name: key: what is wrong". kUnimplemented: names the construct.
absl::StatusOr<TokenizerFile> ParseTokenizerFile(std::string_view json, const std::string& name);

}  // namespace conclave::worker
