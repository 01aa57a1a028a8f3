#pragma once

#include <absl/status/statusor.h>

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "worker/text/marked_string.h"
#include "worker/text/template_value.h"

namespace conclave::worker {

// As Python's json.dumps takes them.
struct TemplateJsonStyle {
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::optional<int64_t> indent;            // Absent: one line.
  std::string between_items, between_pair;  // Empty: Python's.
};

// What json.dumps writes; texts keep their marks. kInvalidArgument: not serialisable;
// kResourceExhausted: more than `most_bytes`.
absl::StatusOr<MarkedString> TemplateToJson(const TemplateValue& value,
                                            const TemplateJsonStyle& style, size_t most_bytes);

// A JSON value whose texts and keys are all of one author.
TemplateValue TemplateFromJson(const nlohmann::ordered_json& json, Author author);

}  // namespace conclave::worker
