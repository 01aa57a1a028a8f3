#include "worker/text/json_text.h"

#include <cstdint>
#include <fstream>
#include <system_error>

#include "common/json_shape.h"
#include "common/status.h"

namespace conclave::worker {
namespace {

constexpr int kMaxJsonDepth = 100;

}  // namespace

absl::StatusOr<std::string> ReadFile(const std::filesystem::path& path, size_t max_bytes) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  if (error) return NotFound("{}: {}", path.string(), error.message());
  if (size > max_bytes) {
    return InvalidArgument("{}: has {} bytes; the limit is {}", path.string(), size, max_bytes);
  }
  std::string bytes(size, '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(bytes.data(), static_cast<std::streamsize>(size));
  if (!file) return NotFound("{}: cannot be read", path.string());
  return bytes;
}

namespace {

template <typename Json>
absl::StatusOr<Json> ParseAs(std::string_view text, std::string_view name, size_t most_keys) {
  const JsonShape shape = ShapeOfJson(text, kMaxJsonDepth);
  if (shape.depth > kMaxJsonDepth) {
    return InvalidArgument("{}: is nested deeper than {}", name, kMaxJsonDepth);
  }
  if (shape.keys > most_keys) {
    return InvalidArgument("{}: an object has {} keys; the limit is {}", name, shape.keys,
                           most_keys);
  }
  Json parsed = Json::parse(text, nullptr, false);
  if (parsed.is_discarded()) return InvalidArgument("{}: is not valid JSON", name);
  return parsed;
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, std::string_view name) {
  return ParseAs<nlohmann::json>(text, name, SIZE_MAX);
}

absl::StatusOr<nlohmann::ordered_json> ParseOrderedJson(std::string_view text,
                                                        std::string_view name) {
  return ParseAs<nlohmann::ordered_json>(text, name, kMostOrderedKeys);
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
