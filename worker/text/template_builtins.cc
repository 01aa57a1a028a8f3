#include <absl/time/time.h>

#include <algorithm>
#include <cctype>

#include "common/status.h"
#include "worker/text/template_interpreter.h"

namespace conclave::worker {
namespace {

// Of one joined or replaced text.
constexpr size_t kMostBytes = size_t{8} << 20;
constexpr std::string_view kSpace = " \t\n\r\f\v";

int64_t LengthOf(const TemplateValue& value) {
  if (const MarkedString* text = value.text()) {
    // Python counts characters: bytes that do not continue one.
    return std::count_if(text->text().begin(), text->text().end(),
                         [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; });
  }
  if (value.list()) return static_cast<int64_t>(value.list()->size());
  return value.dict() ? static_cast<int64_t>(value.dict()->size()) : -1;
}

// ASCII only: what role names and the like need.
TemplateValue Cased(const MarkedString& text, bool upper) {
  std::string changed = text.text();
  for (char& c : changed) {
    const unsigned char byte = static_cast<unsigned char>(c);
    if (byte < 0x80) c = static_cast<char>(upper ? std::toupper(byte) : std::tolower(byte));
  }
  return TemplateValue(text.WithText(std::move(changed)));
}

TemplateValue Items(const TemplateDict& dict) {
  TemplateList items;
  for (const auto& [key, value] : dict)
    items.push_back(TemplateValue::List({TemplateValue(key), value}));
  return TemplateValue::List(std::move(items));
}

absl::StatusOr<TemplateValue> Join(const std::vector<TemplateValue>& args) {
  const TemplateList* list = args[0].list();
  if (list == nullptr) return InvalidArgument("join needs a list");
  MarkedString out;
  for (size_t i = 0; i < list->size(); ++i) {
    if (i > 0 && args.size() > 1) out.Append(args[1].ToText());
    out.Append((*list)[i].ToText());
    if (out.size() > kMostBytes) return ResourceExhausted("join makes too long a text");
  }
  return TemplateValue(std::move(out));
}

absl::StatusOr<TemplateValue> Split(const MarkedString& text,
                                    const std::vector<TemplateValue>& args) {
  if (args.size() < 2 || args[1].text() == nullptr || args[1].text()->empty()) {
    return InvalidArgument("split needs a separator");
  }
  const int64_t* limit = args.size() > 2 ? args[2].As<int64_t>() : nullptr;
  TemplateList parts;
  for (MarkedString& part : text.Split(args[1].text()->text(), limit ? *limit : -1)) {
    parts.emplace_back(std::move(part));
  }
  return TemplateValue::List(std::move(parts));
}

absl::StatusOr<TemplateValue> TextMethod(const std::string& name, const MarkedString& text,
                                         const std::vector<TemplateValue>& args) {
  const std::string set = args.size() > 1 ? args[1].ToText().text() : std::string(kSpace);
  if (name == "strip" || name == "trim") return TemplateValue(text.Strip(set));
  if (name == "lstrip") return TemplateValue(text.StripLeft(set));
  if (name == "rstrip") return TemplateValue(text.StripRight(set));
  if (name == "upper") return Cased(text, true);
  if (name == "lower") return Cased(text, false);
  if (name == "startswith") return TemplateValue(text.text().starts_with(set));
  if (name == "endswith") return TemplateValue(text.text().ends_with(set));
  if (name == "split") return Split(text, args);
  if (name == "replace" && args.size() >= 3 && !set.empty()) {
    const MarkedString to = args[2].ToText();
    if (text.size() / set.size() * to.size() > kMostBytes) {
      return ResourceExhausted("replace makes too long a text");
    }
    return TemplateValue(text.Replace(set, to));
  }
  return Unimplemented("the method '{}' of a string is not interpreted", name);
}

}  // namespace

absl::StatusOr<TemplateValue> CallTemplateFilter(const std::string& name,
                                                 const std::vector<TemplateValue>& args) {
  const TemplateValue& value = args[0];
  if (name == "default" || name == "d") {
    const bool falsy = args.size() > 2 && args[2].truthy() && !value.truthy();
    return value.defined() && !falsy ? value : args.size() > 1 ? args[1] : TemplateValue::Text("");
  }
  if (name == "safe") return value;
  if (name == "string") return TemplateValue(value.ToText());
  if (name == "length" || name == "count") {
    const int64_t length = LengthOf(value);
    if (length < 0) return InvalidArgument("length of what has none");
    return TemplateValue(length);
  }
  if (name == "join") return Join(args);
  if (name == "items" && value.dict()) return Items(*value.dict());
  if (name == "list" && value.list()) return TemplateValue::List(*value.list());
  if (name == "first" && value.list() && !value.list()->empty()) return value.list()->front();
  if (name == "last" && value.list() && !value.list()->empty()) return value.list()->back();
  const bool of_text = name == "trim" || name == "upper" || name == "lower" || name == "replace";
  if (of_text) return TextMethod(name, value.ToText(), args);
  return Unimplemented("the filter '{}' is not interpreted here", name);
}

absl::StatusOr<TemplateValue> CallTemplateMethod(const std::string& name,
                                                 const std::vector<TemplateValue>& args) {
  if (args[0].text()) return TextMethod(name, *args[0].text(), args);
  if (TemplateDict* dict = args[0].dict()) {
    if (name == "items") return Items(*dict);
    if (name == "get" && args.size() >= 2) {
      const TemplateValue found = TemplateMember(*dict, args[1].ToText().text());
      return found.defined() ? found : args.size() > 2 ? args[2] : TemplateValue(nullptr);
    }
  }
  return Unimplemented("the method '{}' is not interpreted here", name);
}

absl::StatusOr<bool> TestTemplateValue(const std::string& name,
                                       const std::vector<TemplateValue>& args) {
  const TemplateValue& value = args[0];
  if (name == "defined") return value.defined();
  if (name == "undefined") return !value.defined();
  if (name == "none") return value.As<std::nullptr_t>() != nullptr;
  if (name == "string") return value.text() != nullptr;
  if (name == "mapping") return value.dict() != nullptr;
  if (name == "sequence" || name == "iterable") return value.list() || value.dict() || value.text();
  if (name == "boolean") return value.As<bool>() != nullptr;
  if (name == "integer") return value.As<int64_t>() != nullptr;
  if (name == "number") return value.As<int64_t>() != nullptr || value.As<double>() != nullptr;
  if (name == "true") return value.As<bool>() != nullptr && *value.As<bool>();
  if (name == "false") return value.As<bool>() != nullptr && !*value.As<bool>();
  if (name == "equalto" && args.size() > 1) return TemplateEquals(value, args[1]);
  return Unimplemented("the test '{}' is not interpreted", name);
}

}  // namespace conclave::worker
