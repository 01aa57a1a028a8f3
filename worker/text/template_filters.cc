#include "worker/text/template_filters.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "common/status.h"
#include "worker/text/json_text.h"
#include "worker/text/template_json.h"
#include "worker/text/template_operators.h"
#include "worker/text/template_strings.h"

namespace conclave::worker {
namespace {

using Value = TemplateValue;
using Result = absl::StatusOr<Value>;
using Machine = TemplateMachine;
using Name = const std::string&;
using Arguments = const TemplateArguments&;

Result Default(Machine&, Name name, const Value& value, Arguments args) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments(name, args, {"default_value", "boolean"}));
  const bool falsy = FlagArgument(bound[1]) && !value.truthy();
  if (value.defined() && !falsy) return value;
  return bound[0] != nullptr ? *bound[0] : Value::Of("");
}

Result Text(Machine& machine, Name name, const Value& value, Arguments args) {
  RETURN_IF_ERROR(BindArguments(name, args, {}).status());
  ASSIGN_OR_RETURN(MarkedString text, machine.TextOf(value));
  return machine.Made(std::move(text));
}

// Methods of strings that filters are, too.
Result AsMethod(Machine& machine, Name name, const Value& value, Arguments args) {
  ASSIGN_OR_RETURN(const MarkedString text, machine.TextOf(value));
  return CallTemplateMethod(machine, name == "trim" ? "strip" : name, Value(text), args);
}

Result Title(Machine& machine, Name, const Value& value, Arguments) {
  ASSIGN_OR_RETURN(const MarkedString text, machine.TextOf(value));
  return machine.Made(CaseTemplateText(text, TextCase::kFilterTitle));
}

Result Replace(Machine& machine, Name name, const Value& value, Arguments args) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments(name, args, {"old", "new", "count"}));
  if (bound[0] == nullptr || bound[1] == nullptr) {
    return InvalidArgument("replace takes two strings");
  }
  ASSIGN_OR_RETURN(const MarkedString text, machine.TextOf(value));
  ASSIGN_OR_RETURN(const MarkedString from, machine.TextOf(*bound[0]));
  ASSIGN_OR_RETURN(const MarkedString to, machine.TextOf(*bound[1]));
  int64_t limit = -1;
  if (bound[2] != nullptr && !bound[2]->none()) {
    ASSIGN_OR_RETURN(limit, IntegerArgument("count", bound[2], -1));
  }
  // How often, at most: so that nothing larger than allowed is ever made.
  const size_t matches =
      from.empty() ? static_cast<size_t>(TemplateTextLength(text)) + 1 : text.size() / from.size();
  RETURN_IF_ERROR(machine.SpendSearch(text.size(), from.size()));
  if (!from.empty()) {
    size_t found = 0;
    for (size_t at = text.text().find(from.text()); at != std::string::npos && found <= matches;
         at = text.text().find(from.text(), at + from.size())) {
      ++found;
    }
    if (found * to.size() > machine.most_bytes()) {
      return ResourceExhausted("replace makes more than {} bytes", machine.most_bytes());
    }
    RETURN_IF_ERROR(machine.Spend(static_cast<int64_t>(found)));
    return machine.Made(text.Replace(from.text(), to, limit));
  }
  if (matches * (to.size() + 1) > machine.most_bytes()) {
    return ResourceExhausted("replace makes more than {} bytes", machine.most_bytes());
  }
  ASSIGN_OR_RETURN(const TemplateItems characters, machine.ItemsOf(Value(text)));
  MarkedString out;  // Between all characters, and at both ends.
  for (const Value& each : characters) {
    if (limit != 0) out.Append(to);
    if (limit > 0) --limit;
    out.Append(*each.text());
  }
  if (limit != 0) out.Append(to);
  return machine.Made(std::move(out));
}

Result Indent(Machine& machine, Name name, const Value& value, Arguments args) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments(name, args, {"width", "first", "blank"}));
  MarkedString indent;
  if (bound[0] != nullptr && bound[0]->text() != nullptr) {
    indent = *bound[0]->text();
  } else {
    ASSIGN_OR_RETURN(const int64_t width, IntegerArgument("width", bound[0], 4));
    if (width > 1000) return ResourceExhausted("indent is wider than 1000");
    indent =
        MarkedString::Template(std::string(static_cast<size_t>(std::max<int64_t>(width, 0)), ' '));
  }
  const bool first = FlagArgument(bound[1]), blank = FlagArgument(bound[2]);
  ASSIGN_OR_RETURN(MarkedString text, machine.TextOf(value));
  text.Append("\n", Author::kTemplate);  // As Jinja does: an empty last line is one.
  RETURN_IF_ERROR(machine.SpendParts(CountTemplateLines(text)));
  const std::vector<MarkedString> lines = TemplateLines(text, false);
  RETURN_IF_ERROR(machine.Spend(static_cast<int64_t>(lines.size() * (1 + indent.size() / 64))));
  if (lines.size() * indent.size() > machine.most_bytes()) {
    return ResourceExhausted("indent makes more than {} bytes", machine.most_bytes());
  }
  MarkedString out;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i > 0) out.Append("\n", Author::kTemplate);
    if (i == 0 ? first : blank || !lines[i].empty()) out.Append(indent);
    out.Append(lines[i]);
  }
  return machine.Made(std::move(out));
}

Result ToJson(Machine& machine, Name name, const Value& value, Arguments args) {
  ASSIGN_OR_RETURN(
      const auto bound,
      BindArguments(name, args, {"ensure_ascii", "indent", "separators", "sort_keys"}));
  TemplateJsonStyle style;
  style.ensure_ascii = FlagArgument(bound[0]);
  style.sort_keys = FlagArgument(bound[3]);
  if (bound[1] != nullptr && !bound[1]->none()) {
    ASSIGN_OR_RETURN(style.indent, IntegerArgument("indent", bound[1], 0));
    if (*style.indent > 100) return ResourceExhausted("tojson's indent is greater than 100");
  }
  if (bound[2] != nullptr && !bound[2]->none()) {
    const TemplateList* pair = bound[2]->list();
    if (pair == nullptr || pair->items.size() != 2) {
      return InvalidArgument("tojson's separators are two strings");
    }
    ASSIGN_OR_RETURN(const MarkedString items, machine.TextOf(pair->items[0]));
    ASSIGN_OR_RETURN(const MarkedString keys, machine.TextOf(pair->items[1]));
    style.between_items = items.text();
    style.between_pair = keys.text();
    if (items.size() > 64 || keys.size() > 64 || !items.WrittenByTemplate(0, items.size()) ||
        !keys.WrittenByTemplate(0, keys.size())) {
      return InvalidArgument("tojson's separators are short strings of the template");
    }
  }
  RETURN_IF_ERROR(machine.Spend(value.weight()));
  ASSIGN_OR_RETURN(MarkedString json, TemplateToJson(value, style, machine.most_bytes()));
  return machine.Made(std::move(json));
}

Result FromJson(Machine& machine, Name name, const Value& value, Arguments args) {
  RETURN_IF_ERROR(BindArguments(name, args, {}).status());
  if (value.text() == nullptr) return InvalidArgument("from_json takes a string");
  const MarkedString& text = *value.text();
  RETURN_IF_ERROR(machine.Spend(static_cast<int64_t>(text.size())));
  ASSIGN_OR_RETURN(const nlohmann::ordered_json json, ParseOrderedJson(text.text(), "from_json"));
  const bool ours = text.WrittenByTemplate(0, text.size());
  return machine.Made(TemplateFromJson(json, ours ? Author::kTemplate : Author::kCaller));
}

Result Integer(Machine& machine, Name name, const Value& value, Arguments args) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments(name, args, {"default", "base"}));
  const Value fallback = bound[0] != nullptr ? *bound[0] : Value(int64_t{0});
  ASSIGN_OR_RETURN(const int64_t base, IntegerArgument("base", bound[1], 10));
  int64_t number = 0;
  if (value.AsInteger(number)) return Value(number);
  double real = 0;
  if (value.text() != nullptr) {
    RETURN_IF_ERROR(machine.Spend(static_cast<int64_t>(value.text()->size() / 64)));
    const MarkedString stripped = StripTemplateText(*value.text(), nullptr, TextSide::kBoth);
    std::string_view digits = stripped.text();
    if (digits.starts_with('+')) digits.remove_prefix(1);
    if (base < 2 || base > 36) return InvalidArgument("int's base is {}", base);
    const char* end = digits.data() + digits.size();
    const auto whole = std::from_chars(digits.data(), end, number, static_cast<int>(base));
    if (whole.ec == std::errc() && whole.ptr == end && !digits.empty()) return Value(number);
    const auto part = std::from_chars(digits.data(), end, real);
    if (part.ec != std::errc() || part.ptr != end || digits.empty()) return fallback;
  } else if (!value.AsNumber(real)) {
    return fallback;
  }
  return std::fabs(real) < 9e18 ? Value(static_cast<int64_t>(real)) : fallback;
}

Result Float(Machine& machine, Name name, const Value& value, Arguments args) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments(name, args, {"default"}));
  double number = 0;
  if (value.AsNumber(number)) return Value(number);
  if (value.text() != nullptr) {
    RETURN_IF_ERROR(machine.Spend(static_cast<int64_t>(value.text()->size() / 64)));
    const MarkedString stripped = StripTemplateText(*value.text(), nullptr, TextSide::kBoth);
    const std::string& digits = stripped.text();
    const char* end = digits.data() + digits.size();
    const auto read = std::from_chars(digits.data(), end, number);
    if (read.ec == std::errc() && read.ptr == end && !digits.empty()) return Value(number);
  }
  return bound[0] != nullptr ? *bound[0] : Value(0.0);
}

Result Abs(Machine&, Name, const Value& value, Arguments) {
  int64_t integer = 0;
  double number = 0;
  if (value.AsInteger(integer) && integer != INT64_MIN) {
    return Value(integer < 0 ? -integer : integer);
  }
  if (value.AsNumber(number)) return Value(std::fabs(number));
  return InvalidArgument("abs of '{}'", value.type_name());
}

Result Round(Machine&, Name name, const Value& value, Arguments args) {
  ASSIGN_OR_RETURN(const auto bound, BindArguments(name, args, {"precision", "method"}));
  ASSIGN_OR_RETURN(const int64_t precision, IntegerArgument("precision", bound[0], 0));
  double number = 0;
  if (!value.AsNumber(number)) return InvalidArgument("round of '{}'", value.type_name());
  if (precision < -15 || precision > 15)
    return InvalidArgument("round's precision is {}", precision);
  const std::string method =
      bound[1] != nullptr && bound[1]->text() ? bound[1]->text()->text() : "common";
  const double scale = std::pow(10.0, static_cast<double>(precision));
  if (method == "ceil") return Value(std::ceil(number * scale) / scale);
  if (method == "floor") return Value(std::floor(number * scale) / scale);
  if (method != "common") return InvalidArgument("round's method is common, ceil or floor");
  // Halves to even, as Python; a shown text is exact where scaling is not.
  if (precision < 0) return Value(std::nearbyint(number * scale) / scale);
  return Value(std::strtod(fmt::format("{:.{}f}", number, precision).c_str(), nullptr));
}

Result Percent(Machine& machine, Name, const Value& value, Arguments args) {
  ASSIGN_OR_RETURN(const MarkedString format, machine.TextOf(value));
  if (!args.positional.empty() && !args.named.empty()) {
    return InvalidArgument("format takes values or keywords, not both");
  }
  ASSIGN_OR_RETURN(MarkedString text, TemplatePercent(machine, format, args));
  return machine.Made(std::move(text));
}

Result Escape(Machine& machine, Name, const Value& value, Arguments) {
  ASSIGN_OR_RETURN(MarkedString text, machine.TextOf(value));
  static constexpr std::pair<const char*, const char*> kEscapes[] = {
      {"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"'", "&#39;"}, {"\"", "&#34;"}};
  for (const auto& [from, to] : kEscapes) text = text.Replace(from, MarkedString::Template(to));
  return machine.Made(std::move(text));
}

constexpr std::pair<std::string_view, TemplateFilter> kFilters[] = {
    {"default", Default},    {"d", Default},       {"string", Text},    {"safe", Text},
    {"trim", AsMethod},      {"upper", AsMethod},  {"lower", AsMethod}, {"capitalize", AsMethod},
    {"title", Title},        {"replace", Replace}, {"indent", Indent},  {"tojson", ToJson},
    {"from_json", FromJson}, {"int", Integer},     {"float", Float},    {"abs", Abs},
    {"round", Round},        {"format", Percent},  {"escape", Escape},  {"e", Escape}};

}  // namespace

absl::StatusOr<TemplateValue> CallTemplateFilter(TemplateMachine& machine, const std::string& name,
                                                 const TemplateValue& value,
                                                 const TemplateArguments& args) {
  for (const auto& [each, filter] : kFilters) {
    if (name == each) return filter(machine, name, value, args);
  }
  if (const TemplateFilter filter = FindSequenceFilter(name)) {
    return filter(machine, name, value, args);
  }
  return Unimplemented("the filter '{}' is not interpreted", name);
}

}  // namespace conclave::worker
