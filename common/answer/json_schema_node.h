#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <re2/re2.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

// A schema as it is checked: the inside of json_schema.h.
namespace conclave {

// The types of JSON; an integer is a number, too. A set of them is the sum of their bits.
enum JsonType : uint8_t {
  kJsonNull = 1,
  kJsonBoolean = 2,
  kJsonObject = 4,
  kJsonArray = 8,
  kJsonNumber = 16,
  kJsonInteger = 32,
  kJsonString = 64,
};

struct SchemaNode {
  static constexpr int kAny = -1;   // In place of a node: whatever it is.
  static constexpr int kNone = -2;  // Nothing may be there.

  uint8_t types = 0;                      // 0: all.
  std::optional<nlohmann::json> choices;  // enum: a list. const: a list of one, in `constant`.
  std::optional<nlohmann::json> constant;
  std::vector<std::string> required;
  std::map<std::string, int> properties;  // Nodes.
  int additional = kAny;                  // Node of what `properties` does not name.
  int items = kAny;                       // Node of each item.
  std::optional<uint64_t> min_items, max_items, min_length, max_length;
  std::optional<nlohmann::json> minimum, maximum;
  std::unique_ptr<const RE2> pattern;
};

// The nodes of a schema, the root first. Errors as JsonSchema::Parse.
absl::StatusOr<std::vector<SchemaNode>> CompileSchema(const nlohmann::json& schema);

// The value's type; kJsonInteger for every number without a fraction.
JsonType TypeOf(const nlohmann::json& value);
// "string", "integer", ...
const char* NameOf(JsonType type);
// REQUIRES: two numbers. Below 0, 0, above 0.
int CompareNumbers(const nlohmann::json& a, const nlohmann::json& b);

}  // namespace conclave
