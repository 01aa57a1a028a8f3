#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <nlohmann/json.hpp>
#include <string>

#include "common/status.h"
#include "worker/text/json_text.h"
#include "worker/text/split_pattern.h"

// What the readers of a tokenizer.json's parts share. Errors begin with the JSON path.
namespace conclave::worker {

// Most steps of one part (normalizer, pre_tokenizer, ...), Sequences counted out.
inline constexpr int kMostTokenizerSteps = 16;
// Most bytes of a pattern, and of the text that a step puts in.
inline constexpr size_t kMostPatternBytes = size_t{4} << 10;
inline constexpr size_t kMostInsertedBytes = 256;

// "Sequence", "NFC", ...; "(no type)".
inline std::string TypeOf(const nlohmann::json& node) {
  return TextMember(node, "type", "(no type)");
}

// Calls visit(node, path) for a node, or for each member of a Sequence of them, in order. Nothing
// for null. `count` is the steps so far.
template <typename Visit>
absl::Status ForEachStep(const nlohmann::json& node, const std::string& path, const char* members,
                         int& count, const Visit& visit) {
  if (node.is_null()) return absl::OkStatus();
  if (TypeOf(node) != "Sequence") {
    if (++count > kMostTokenizerSteps) {
      return InvalidArgument("{}: more than {} steps", path, kMostTokenizerSteps);
    }
    return visit(node, path);
  }
  const nlohmann::json& list = Member(node, members);
  if (!list.is_array()) return InvalidArgument("{}.{}: is not a list", path, members);
  for (size_t i = 0; i < list.size(); ++i) {
    RETURN_IF_ERROR(
        ForEachStep(list[i], fmt::format("{}.{}[{}]", path, members, i), members, count, visit));
  }
  return absl::OkStatus();
}

// The member "pattern" of a Split or Replace: {"String": text} or {"Regex": text}.
absl::StatusOr<SplitPattern> PatternOf(const nlohmann::json& node, const std::string& path,
                                       SplitPattern::Options options);

// The member `key`, a text of at most kMostInsertedBytes.
absl::StatusOr<std::string> InsertedText(const nlohmann::json& node, const std::string& path,
                                         const char* key);

}  // namespace conclave::worker
