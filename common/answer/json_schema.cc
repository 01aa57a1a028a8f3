#include "common/answer/json_schema.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "common/answer/json_schema_node.h"
#include "common/answer/normalise.h"
#include "common/answer/pattern.h"
#include "common/json_parse.h"
#include "common/plain_text.h"
#include "common/status.h"
#include "common/utf8.h"

namespace conclave {
namespace {

using Json = nlohmann::json;

constexpr size_t kMostSchemaBytes = 65536;
constexpr size_t kMostTextBytes = size_t{256} << 10;
constexpr JsonLimits kSchemaLimits = {.depth = 32, .keys = 1024, .values = 16384};
constexpr JsonLimits kTextLimits = {.depth = 64, .keys = 16384, .values = 65536};
constexpr size_t kMostPlaceBytes = 128;
// A look at one value, in the steps of a pattern.
constexpr size_t kStep = 16;

// The inside of ```json ... ```, when that is all there is.
std::string_view WithoutFence(std::string_view text) {
  constexpr std::string_view kFence = "```";
  text = TrimSpace(text);
  const size_t line = text.find('\n');
  const bool fenced = text.size() > 2 * kFence.size() && line != std::string_view::npos &&
                      text.substr(0, kFence.size()) == kFence &&
                      text.substr(text.size() - kFence.size()) == kFence;
  if (!fenced) return text;
  text.remove_suffix(kFence.size());
  return line < text.size() ? TrimSpace(text.substr(line)) : text;
}

// Where a value stands in the answer: the steps from the root.
struct Place {
  const Place* around = nullptr;
  std::string_view name;  // Of a property.
  size_t index = 0;       // Of an item; then no name.

  std::string Text() const {
    if (around == nullptr) return "";
    std::string text = around->Text() + "/";
    text += name.data() == nullptr ? std::to_string(index) : std::string(name);
    return text;
  }
};

size_t Characters(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0u) != 0x80u;
  }));
}

// One check of one answer. Recursion ends at the depth of the answer's JSON, which its parser has
// bounded; all that it does is work, which is bounded too.
class Checking {
 public:
  explicit Checking(const std::vector<SchemaNode>& nodes) : nodes_(nodes) {}

  absl::Status Value(const Json& value, int index, const Place& place) {
    if (index == SchemaNode::kAny) return absl::OkStatus();
    if (index == SchemaNode::kNone) return Wrong(place, "may not be there");
    const SchemaNode& node = nodes_[static_cast<size_t>(index)];
    RETURN_IF_ERROR(Type(value, node, place));
    RETURN_IF_ERROR(Choice(value, node, place));
    if (value.is_number()) return Number(value, node, place);
    if (value.is_string()) return String(value.get_ref<const std::string&>(), node, place);
    if (value.is_array()) return Array(value, node, place);
    if (value.is_object()) return Object(value, node, place);
    return absl::OkStatus();
  }

 private:
  static absl::Status Wrong(const Place& place, std::string_view what) {
    std::string where = place.Text();
    if (where.empty()) return InvalidArgument("{}", what);
    if (where.size() > kMostPlaceBytes) {
      where = std::string(FirstCharacters(where, kMostPlaceBytes)) + "...";
    }
    return InvalidArgument("{} at {}", what, PlainText(where));
  }

  // True while there is work left.
  bool Spend(size_t work) {
    left_ -= std::min(left_, work + kStep);
    return left_ > 0;
  }
  static absl::Status TooMuch() { return InvalidArgument("takes too long to check"); }

  // As JSON Schema has it: 1 and 1.0 are equal. False, too, when the work is used up.
  bool Equal(const Json& a, const Json& b) {
    if (!Spend(0)) return false;
    if (a.is_number() && b.is_number()) return CompareNumbers(a, b) == 0;
    if (a.type() != b.type()) return false;
    if (a.is_string()) {
      const auto& text = a.get_ref<const std::string&>();
      return Spend(text.size()) && text == b.get_ref<const std::string&>();
    }
    if (!a.is_structured()) return a == b;
    if (a.size() != b.size()) return false;
    auto other = b.begin();
    for (auto each = a.begin(); each != a.end(); ++each, ++other) {
      // Members stand in the order of their names.
      if (a.is_object() && each.key() != other.key()) return false;
      if (!Equal(*each, *other)) return false;
    }
    return true;
  }

  static absl::Status Type(const Json& value, const SchemaNode& node, const Place& place) {
    if (node.types == 0) return absl::OkStatus();
    const JsonType type = TypeOf(value);
    const int fits = type == kJsonInteger ? kJsonInteger | kJsonNumber : type;
    if ((node.types & fits) != 0) return absl::OkStatus();
    std::string wanted;
    for (int bit = 1; bit <= kJsonString; bit *= 2) {
      if ((node.types & bit) == 0) continue;
      if (!wanted.empty()) wanted += " or ";
      wanted += NameOf(static_cast<JsonType>(bit));
    }
    return Wrong(place, fmt::format("is {}, not {}", NameOf(type), wanted));
  }

  absl::Status Choice(const Json& value, const SchemaNode& node, const Place& place) {
    if (node.constant && !Equal(value, *node.constant)) {
      return left_ == 0 ? TooMuch() : Wrong(place, "is not the one value");
    }
    if (!node.choices) return absl::OkStatus();
    for (const Json& choice : *node.choices) {
      if (Equal(value, choice)) return absl::OkStatus();
    }
    return left_ == 0 ? TooMuch() : Wrong(place, "is none of the values");
  }

  static absl::Status Number(const Json& value, const SchemaNode& node, const Place& place) {
    if (node.minimum && CompareNumbers(value, *node.minimum) < 0) {
      return Wrong(place, fmt::format("is below {}", node.minimum->dump()));
    }
    if (node.maximum && CompareNumbers(value, *node.maximum) > 0) {
      return Wrong(place, fmt::format("is above {}", node.maximum->dump()));
    }
    return absl::OkStatus();
  }

  static absl::Status Count(uint64_t count, const std::optional<uint64_t>& least,
                            const std::optional<uint64_t>& most, std::string_view what,
                            const Place& place) {
    if (least && count < *least) {
      return Wrong(place, fmt::format("has {} {}; the least is {}", count, what, *least));
    }
    if (most && count > *most) {
      return Wrong(place, fmt::format("has {} {}; the most is {}", count, what, *most));
    }
    return absl::OkStatus();
  }

  absl::Status String(const std::string& text, const SchemaNode& node, const Place& place) {
    RETURN_IF_ERROR(Count(Characters(text), node.min_length, node.max_length, "characters", place));
    if (!node.pattern) return absl::OkStatus();
    if (!Spend(text.size() * static_cast<size_t>(node.pattern->ProgramSize()))) {
      return TooMuch();
    }
    if (RE2::PartialMatch(text, *node.pattern)) return absl::OkStatus();
    return Wrong(place, "does not match the pattern");
  }

  absl::Status Array(const Json& value, const SchemaNode& node, const Place& place) {
    RETURN_IF_ERROR(Count(value.size(), node.min_items, node.max_items, "items", place));
    for (size_t i = 0; i < value.size(); ++i) {
      RETURN_IF_ERROR(Value(value[i], node.items, {.around = &place, .name = {}, .index = i}));
    }
    return absl::OkStatus();
  }

  absl::Status Object(const Json& value, const SchemaNode& node, const Place& place) {
    for (const std::string& name : node.required) {
      if (!Spend(name.size())) return TooMuch();
      if (!value.contains(name)) return Wrong(place, fmt::format("lacks \"{}\"", PlainText(name)));
    }
    for (const auto& [name, member] : value.items()) {
      if (!Spend(name.size())) return TooMuch();
      const auto known = node.properties.find(name);
      const int index = known != node.properties.end() ? known->second : node.additional;
      RETURN_IF_ERROR(Value(member, index, {.around = &place, .name = name, .index = 0}));
    }
    return absl::OkStatus();
  }

  const std::vector<SchemaNode>& nodes_;
  size_t left_ = kMostPatternWork;
};

}  // namespace

struct JsonSchema::Rules {
  std::vector<SchemaNode> nodes;
};

JsonSchema::JsonSchema(std::shared_ptr<const Rules> rules) : rules_(std::move(rules)) {}

absl::StatusOr<JsonSchema> JsonSchema::Parse(std::string_view text) {
  if (text.size() > kMostSchemaBytes) {
    return InvalidArgument("has {} bytes; the limit is {}", text.size(), kMostSchemaBytes);
  }
  ASSIGN_OR_RETURN(const Json schema, ParseJsonWithin(kSchemaLimits, text));
  auto rules = std::make_shared<Rules>();
  ASSIGN_OR_RETURN(rules->nodes, CompileSchema(schema));
  return JsonSchema(std::move(rules));
}

absl::Status JsonSchema::Check(std::string_view text) const {
  text = WithoutFence(text);
  if (text.size() > kMostTextBytes) {
    return InvalidArgument("has {} bytes; the limit is {}", text.size(), kMostTextBytes);
  }
  ASSIGN_OR_RETURN(const Json value, ParseJsonWithin(kTextLimits, text));
  return Checking(rules_->nodes).Value(value, 0, {});
}

}  // namespace conclave
