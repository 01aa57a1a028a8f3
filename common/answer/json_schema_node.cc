#include "common/answer/json_schema_node.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <string_view>
#include <utility>

#include "common/answer/pattern.h"
#include "common/plain_text.h"
#include "common/status.h"

namespace conclave {
namespace {

using Json = nlohmann::json;

constexpr size_t kMostPatterns = 16;
constexpr int kMostSteps = 500;

struct TypeName {
  std::string_view name;
  JsonType type;
};
constexpr TypeName kTypes[] = {{"null", kJsonNull},     {"boolean", kJsonBoolean},
                               {"object", kJsonObject}, {"array", kJsonArray},
                               {"number", kJsonNumber}, {"integer", kJsonInteger},
                               {"string", kJsonString}};

std::optional<JsonType> TypeCalled(const Json& name) {
  if (!name.is_string()) return std::nullopt;
  const auto& text = name.get_ref<const std::string&>();
  const auto* found = std::find_if(std::begin(kTypes), std::end(kTypes),
                                   [&](const TypeName& each) { return each.name == text; });
  if (found == std::end(kTypes)) return std::nullopt;
  return found->type;
}

// Recursion ends at the depth of the schema's JSON, which its parser has bounded.
class Compiler {
 public:
  absl::StatusOr<int> Node(const Json& schema, const std::string& place) {
    if (!schema.is_object()) return Wrong(place, "a schema is an object");
    const auto index = static_cast<int>(nodes_.size());
    nodes_.emplace_back();
    SchemaNode node;
    for (const auto& [keyword, value] : schema.items()) {
      const absl::Status read = Read(keyword, value, place + "/" + keyword, node);
      if (!read.ok()) return read;
    }
    nodes_[static_cast<size_t>(index)] = std::move(node);
    return index;
  }

  std::vector<SchemaNode> Take() { return std::move(nodes_); }

 private:
  static absl::Status Wrong(const std::string& place, std::string_view what) {
    return InvalidArgument("is wrong at {}: {}", place.empty() ? "/" : PlainText(place), what);
  }

  absl::Status Read(const std::string& keyword, const Json& value, const std::string& place,
                    SchemaNode& node) {
    if (keyword == "type") return ReadTypes(value, place, node);
    if (keyword == "enum") return ReadChoices(value, place, node);
    if (keyword == "required") return ReadRequired(value, place, node);
    if (keyword == "properties") return ReadProperties(value, place, node);
    if (keyword == "additionalProperties") return ReadAdditional(value, place, node);
    if (keyword == "pattern") return ReadPattern(value, place, node);
    if (keyword == "minItems") return ReadCount(value, place, node.min_items);
    if (keyword == "maxItems") return ReadCount(value, place, node.max_items);
    if (keyword == "minLength") return ReadCount(value, place, node.min_length);
    if (keyword == "maxLength") return ReadCount(value, place, node.max_length);
    if (keyword == "minimum") return ReadNumber(value, place, node.minimum);
    if (keyword == "maximum") return ReadNumber(value, place, node.maximum);
    if (keyword == "const") {
      node.constant = value;
    } else if (keyword == "items") {
      ASSIGN_OR_RETURN(node.items, Node(value, place));
    } else if (keyword != "$schema" && keyword != "title" && keyword != "description") {
      return Wrong(place, "it is no keyword that is known here");
    }
    return absl::OkStatus();
  }

  static absl::Status ReadTypes(const Json& value, const std::string& place, SchemaNode& node) {
    const Json list = value.is_array() ? value : Json::array({value});
    for (const Json& name : list) {
      const std::optional<JsonType> type = TypeCalled(name);
      if (!type) {
        return Wrong(place, "a type is null, boolean, object, array, number, integer or string");
      }
      node.types = static_cast<uint8_t>(node.types | *type);
    }
    return list.empty() ? Wrong(place, "it names no type") : absl::OkStatus();
  }

  static absl::Status ReadChoices(const Json& value, const std::string& place, SchemaNode& node) {
    if (!value.is_array() || value.empty()) return Wrong(place, "it is a list of values");
    node.choices = value;
    return absl::OkStatus();
  }

  static absl::Status ReadRequired(const Json& value, const std::string& place, SchemaNode& node) {
    const bool names = value.is_array() && std::all_of(value.begin(), value.end(),
                                                       [](const Json& v) { return v.is_string(); });
    if (!names) return Wrong(place, "it is a list of names");
    node.required = value.get<std::vector<std::string>>();
    return absl::OkStatus();
  }

  absl::Status ReadProperties(const Json& value, const std::string& place, SchemaNode& node) {
    if (!value.is_object()) return Wrong(place, "it is an object of schemas");
    for (const auto& [name, schema] : value.items()) {
      ASSIGN_OR_RETURN(node.properties[name], Node(schema, place + "/" + name));
    }
    return absl::OkStatus();
  }

  absl::Status ReadAdditional(const Json& value, const std::string& place, SchemaNode& node) {
    if (value.is_boolean()) {
      node.additional = value.get<bool>() ? SchemaNode::kAny : SchemaNode::kNone;
      return absl::OkStatus();
    }
    ASSIGN_OR_RETURN(node.additional, Node(value, place));
    return absl::OkStatus();
  }

  absl::Status ReadPattern(const Json& value, const std::string& place, SchemaNode& node) {
    if (!value.is_string()) return Wrong(place, "it is a string");
    if (++patterns_ > kMostPatterns) {
      return Wrong(place, fmt::format("there are more than {} patterns", kMostPatterns));
    }
    auto pattern = CompilePattern(value.get<std::string>(), kMostSteps);
    if (!pattern.ok()) return Wrong(place, MessageOf(pattern.status()));
    node.pattern = *std::move(pattern);
    return absl::OkStatus();
  }

  static absl::Status ReadCount(const Json& value, const std::string& place,
                                std::optional<uint64_t>& count) {
    if (!value.is_number_unsigned()) return Wrong(place, "it is a whole number, 0 or more");
    count = value.get<uint64_t>();
    return absl::OkStatus();
  }

  static absl::Status ReadNumber(const Json& value, const std::string& place,
                                 std::optional<Json>& number) {
    if (!value.is_number()) return Wrong(place, "it is a number");
    number = value;
    return absl::OkStatus();
  }

  std::vector<SchemaNode> nodes_;
  size_t patterns_ = 0;
};

}  // namespace

absl::StatusOr<std::vector<SchemaNode>> CompileSchema(const Json& schema) {
  Compiler compiler;
  const absl::StatusOr<int> root = compiler.Node(schema, "");
  if (!root.ok()) return root.status();
  return compiler.Take();
}

JsonType TypeOf(const Json& value) {
  if (value.is_null()) return kJsonNull;
  if (value.is_boolean()) return kJsonBoolean;
  if (value.is_object()) return kJsonObject;
  if (value.is_array()) return kJsonArray;
  if (value.is_string()) return kJsonString;
  const bool whole =
      value.is_number_integer() || std::trunc(value.get<double>()) == value.get<double>();
  return whole ? kJsonInteger : kJsonNumber;
}

const char* NameOf(JsonType type) {
  const auto* found = std::find_if(std::begin(kTypes), std::end(kTypes),
                                   [&](const TypeName& each) { return each.type == type; });
  return found->name.data();
}

int CompareNumbers(const Json& a, const Json& b) {
  // Holds every 64-bit integer and every double as it is.
  static_assert(std::numeric_limits<long double>::digits >= 64);
  const auto wide = [](const Json& number) -> long double {
    if (number.is_number_unsigned()) return static_cast<long double>(number.get<uint64_t>());
    if (number.is_number_integer()) return static_cast<long double>(number.get<int64_t>());
    return static_cast<long double>(number.get<double>());
  };
  const long double x = wide(a), y = wide(b);
  return x < y ? -1 : x > y ? 1 : 0;
}

}  // namespace conclave
