#include "worker/text/tokenizer_json.h"

namespace conclave::worker {

absl::StatusOr<SplitPattern> PatternOf(const nlohmann::json& node, const std::string& path,
                                       SplitPattern::Options options) {
  const nlohmann::json& pattern = Member(node, "pattern");
  options.literal = Member(pattern, "String").is_string();
  const std::string text = TextMember(pattern, options.literal ? "String" : "Regex");
  if (text.empty() || text.size() > kMostPatternBytes) {
    return InvalidArgument("{}.pattern: has {} bytes; allowed are 1 to {}", path, text.size(),
                           kMostPatternBytes);
  }
  auto compiled = SplitPattern::Compile(text, options);
  if (!compiled.ok()) return Annotate(compiled.status(), path);
  return compiled;
}

absl::StatusOr<std::string> InsertedText(const nlohmann::json& node, const std::string& path,
                                         const char* key) {
  const nlohmann::json& text = Member(node, key);
  if (!text.is_string()) return InvalidArgument("{}.{}: is no text", path, key);
  if (text.get_ref<const std::string&>().size() > kMostInsertedBytes) {
    return InvalidArgument("{}.{}: has {} bytes; the limit is {}", path, key,
                           text.get_ref<const std::string&>().size(), kMostInsertedBytes);
  }
  return text.get<std::string>();
}

}  // namespace conclave::worker
