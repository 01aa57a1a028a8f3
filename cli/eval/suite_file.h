#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <string_view>

#include "cli/eval/suite.h"

namespace conclave::cli {

inline constexpr size_t kMostSuiteBytes = size_t{1} << 30;

// A suite from a file's text: one JSON object a line with `question` and `answer` (a text or a
// number), and as wanted `id` (else its line's number), `choices` (texts, of which `answer` is one,
// or its letter; `choice_text` asks with them) and `checker`: "number", or one of
//   {"arithmetic": {"value": "22", "numbers": [2, 3]}}, {"regex": "..."}, {"json_schema": {...}}.
// Empty lines count for nothing. kInvalidArgument names the line and what is wrong there.
absl::StatusOr<Suite> ParseSuite(std::string_view text, const std::string& name,
                                 const std::string& choice_text, const SuiteRange& range);

// The same, so that ParseSuite makes the same problems of it.
std::string SuiteText(const Suite& suite);

}  // namespace conclave::cli
