#include "worker/text/json_text.h"

#include "common/json_parse.h"
#include "common/status.h"

namespace conclave::worker {
namespace {

constexpr int kMaxJsonDepth = 100;

template <typename Json>
absl::StatusOr<Json> Named(absl::StatusOr<Json> parsed, std::string_view name) {
  if (!parsed.ok()) return Annotate(parsed.status(), name);
  return parsed;
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, std::string_view name) {
  return Named(ParseJsonWithin({.depth = kMaxJsonDepth}, text), name);
}

absl::StatusOr<nlohmann::ordered_json> ParseOrderedJson(std::string_view text,
                                                        std::string_view name) {
  return Named(ParseOrderedJsonWithin(
                   {.depth = kMaxJsonDepth, .keys = kMostOrderedKeys, .keys_once = false}, text),
               name);
}

const nlohmann::json& Member(const nlohmann::json& object, const char* key) {
  static const nlohmann::json kNull;
  if (!object.is_object()) return kNull;
  const auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

std::string TextMember(const nlohmann::json& object, const char* key, const std::string& fallback) {
  const nlohmann::json& member = Member(object, key);
  return member.is_string() ? member.get_ref<const std::string&>() : fallback;
}

bool FlagMember(const nlohmann::json& object, const char* key) {
  const nlohmann::json& member = Member(object, key);
  return member.is_boolean() && member.get<bool>();
}

}  // namespace conclave::worker
