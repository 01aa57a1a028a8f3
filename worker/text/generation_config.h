#pragma once

#include <absl/status/statusor.h>

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "common/generation.h"
#include "common/types.h"

namespace conclave::worker {

// What a checkpoint's generation_config.json says: how it ends, and how it is drawn from when a
// request does not say.
struct GenerationConfig {
  std::vector<TokenId> end_tokens;  // eos_token_id, rising.
  // temperature, top_k, top_p, min_p, repetition_penalty. do_sample: false is temperature 0.
  Sampling sampling;
  std::string source;  // The file's bytes: part of the fingerprint. Empty: there is none.
};

// Reads dir/generation_config.json; without one, the defaults. kInvalidArgument names file, key,
// value and limits: a value that could not be drawn with, or an id that is no token's.
absl::StatusOr<GenerationConfig> LoadGenerationConfig(const std::filesystem::path& dir);
// The same for a file's bytes; `name` stands in errors.
absl::StatusOr<GenerationConfig> ParseGenerationConfig(std::string_view json,
                                                       const std::string& name);

}  // namespace conclave::worker
