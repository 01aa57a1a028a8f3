#pragma once

#include <absl/status/statusor.h>

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace conclave::worker {

// kInvalidArgument, with `name`: no JSON, nested deeper than 100, or a key that is there twice.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, std::string_view name);

// The same with members in the text's order, as a template's from_json reads them: they are
// searched one by one, so an object has at most kMostOrderedKeys. Of a key that is there twice the
// last counts, as in Python.
inline constexpr size_t kMostOrderedKeys = 1024;
absl::StatusOr<nlohmann::ordered_json> ParseOrderedJson(std::string_view text,
                                                        std::string_view name);

// The member, or null when `object` is no object or lacks it.
const nlohmann::json& Member(const nlohmann::json& object, const char* key);

// The member's text; `fallback` when it is no string.
std::string TextMember(const nlohmann::json& object, const char* key,
                       const std::string& fallback = "");

// The member, when it is a boolean; else false.
bool FlagMember(const nlohmann::json& object, const char* key);

}  // namespace conclave::worker
