#include "worker/text/template_value.h"

#include <fmt/format.h>

#include <algorithm>

namespace conclave::worker {
namespace {

// A text that has outgrown every limit is not continued: whoever asked for it refuses it.
constexpr size_t kMostShownBytes = size_t{16} << 20;

double Number(const TemplateValue& value, bool* number) {
  *number = true;
  if (const bool* b = value.As<bool>()) return *b ? 1 : 0;
  if (const int64_t* i = value.As<int64_t>()) return static_cast<double>(*i);
  if (const double* d = value.As<double>()) return *d;
  *number = false;
  return 0;
}

// As an element of a list is shown: strings in quotes.
MarkedString Shown(const TemplateValue& value) {
  MarkedString out;
  const bool quoted = value.text() != nullptr;
  if (quoted) out.Append("'", Author::kTemplate);
  out.Append(value.ToText());
  if (quoted) out.Append("'", Author::kTemplate);
  return out;
}

}  // namespace

bool TemplateValue::truthy() const {
  bool number;
  const double n = Number(*this, &number);
  if (number) return n != 0;
  if (text()) return !text()->empty();
  if (list()) return !list()->empty();
  return dict() != nullptr && !dict()->empty();
}

MarkedString TemplateValue::ToText() const {
  if (text()) return *text();
  if (As<std::nullptr_t>()) return MarkedString::Template("None");
  if (const bool* b = As<bool>()) return MarkedString::Template(*b ? "True" : "False");
  if (const int64_t* i = As<int64_t>()) return MarkedString::Template(fmt::to_string(*i));
  if (const double* d = As<double>()) {
    std::string shown = fmt::to_string(*d);
    if (shown.find_first_of(".en") == std::string::npos) shown += ".0";
    return MarkedString::Template(std::move(shown));
  }
  MarkedString out;
  if (list()) {
    out.Append("[", Author::kTemplate);
    for (const TemplateValue& each : *list()) {
      if (out.size() > kMostShownBytes) break;
      if (out.size() > 1) out.Append(", ", Author::kTemplate);
      out.Append(Shown(each));
    }
    out.Append("]", Author::kTemplate);
  } else if (dict()) {
    out.Append("{", Author::kTemplate);
    for (const auto& [key, value] : *dict()) {
      if (out.size() > kMostShownBytes) break;
      if (out.size() > 1) out.Append(", ", Author::kTemplate);
      out.Append(Shown(TemplateValue(key)));
      out.Append(": ", Author::kTemplate);
      out.Append(Shown(value));
    }
    out.Append("}", Author::kTemplate);
  }
  return out;
}

TemplateValue TemplateMember(const TemplateDict& dict, const std::string& key) {
  const auto found =
      std::find_if(dict.begin(), dict.end(), [&](const auto& e) { return e.first.text() == key; });
  return found == dict.end() ? TemplateValue() : found->second;
}

bool TemplateEquals(const TemplateValue& a, const TemplateValue& b) {
  bool a_number, b_number;
  const double x = Number(a, &a_number), y = Number(b, &b_number);
  if (a_number && b_number) return x == y;
  if (a.data.index() != b.data.index()) return false;
  if (a.text()) return *a.text() == *b.text();
  if (a.list()) {
    return a.list()->size() == b.list()->size() &&
           std::equal(a.list()->begin(), a.list()->end(), b.list()->begin(), TemplateEquals);
  }
  if (a.dict()) {
    return a.dict()->size() == b.dict()->size() &&
           std::all_of(a.dict()->begin(), a.dict()->end(), [&](const auto& each) {
             return TemplateEquals(each.second, TemplateMember(*b.dict(), each.first.text()));
           });
  }
  return true;  // Two Nones, or two undefined values.
}

}  // namespace conclave::worker
