#pragma once

#include <absl/status/statusor.h>

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string_view>

namespace conclave {

// What a JSON text may hold. Checked before anything is built.
struct JsonLimits {
  int depth = 0;              // Brackets in each other.
  size_t keys = SIZE_MAX;     // Of one object.
  size_t values = 4'000'000;  // Lists, objects and what they hold.
  bool keys_once = true;      // Else the last one of a name counts.
};

// A stranger's text as a value. kInvalidArgument, to be read behind the text's name: "is not valid
// JSON at byte 17", "is nested deeper than 8", "has more than 1000 values", "the key \"a\" is there
// twice", ...
absl::StatusOr<nlohmann::json> ParseJsonWithin(const JsonLimits& limits, std::string_view text);
// The same, with members in the text's order: they are searched one by one, so keep limits.keys
// small.
absl::StatusOr<nlohmann::ordered_json> ParseOrderedJsonWithin(const JsonLimits& limits,
                                                              std::string_view text);

}  // namespace conclave
