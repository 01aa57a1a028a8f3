#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <vector>

#include "worker/text/added_tokens.h"
#include "worker/text/bpe.h"
#include "worker/text/normalizer.h"
#include "worker/text/pre_tokenizer.h"
#include "worker/text/token_decoder.h"

namespace conclave::worker {

// What a tokenizer.json says.
struct TokenizerFile {
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  Bpe bpe;
  TokenDecoder decoder;
  std::vector<AddedToken> added;
  std::vector<TokenId> front, back;  // What the post processor puts around a text.
  std::vector<std::string>
      entries;  // By id: the vocabulary's spelling, or an added token's content.
};

// kInvalidArgument: "name: JSON path: what is wrong". kUnimplemented: names the construct.
absl::StatusOr<TokenizerFile> ParseTokenizerFile(std::string_view json, const std::string& name);

}  // namespace conclave::worker
