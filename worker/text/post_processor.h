#pragma once

#include <absl/status/status.h>

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "common/types.h"

namespace conclave::worker {

// The tokens that the member "post_processor" of a tokenizer.json puts in front of and behind one
// text. Null: none. Errors name the JSON path.
absl::Status ReadPostProcessor(const nlohmann::json& node, std::vector<TokenId>& front,
                               std::vector<TokenId>& back);

}  // namespace conclave::worker
