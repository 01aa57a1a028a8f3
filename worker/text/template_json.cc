#include "worker/text/template_json.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "common/status.h"
#include "worker/text/utf8.h"

namespace conclave::worker {
namespace {

using Value = TemplateValue;

std::string Hex4(uint32_t code) { return fmt::format("\\u{:04x}", code); }

// A character as JSON writes it; empty: as it is.
std::string EscapedForJson(uint32_t code, bool ensure_ascii) {
  switch (code) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    case '\f':
      return "\\f";
    case '\b':
      return "\\b";
    default:
      break;
  }
  if (code < 0x20 || (ensure_ascii && code >= 0x7F && code < 0x10000)) return Hex4(code);
  if (!ensure_ascii || code < 0x7F) return "";
  return Hex4(0xD800 + ((code - 0x10000) >> 10)) + Hex4(0xDC00 + ((code - 0x10000) & 0x3FF));
}

class Writer {
 public:
  Writer(const TemplateJsonStyle& style, size_t most_bytes) : style_(style), most_(most_bytes) {
    items_ = !style.between_items.empty() ? style.between_items : style.indent ? "," : ", ";
    pair_ = !style.between_pair.empty() ? style.between_pair : ": ";
  }

  absl::Status Write(const Value& value, int64_t level) {
    if (out_.size() > most_) return ResourceExhausted("tojson makes more than {} bytes", most_);
    if (value.text()) {
      String(*value.text());
    } else if (value.list() && value.list()->kind <= TemplateList::Kind::kTuple) {
      return List(value.list()->items, level);
    } else if (value.dict()) {
      return Dict(*value.dict(), level);
    } else if (value.list() || !value.defined() || value.space() || value.loop() ||
               value.callable()) {
      return InvalidArgument("Object of type {} is not JSON serializable", value.type_name());
    } else {
      Put(Scalar(value));
    }
    return absl::OkStatus();
  }
  MarkedString Take() { return std::move(out_); }

 private:
  void Put(std::string_view text) { out_.Append(text, Author::kTemplate); }

  static std::string Scalar(const Value& value) {
    if (const bool* flag = value.As<bool>()) return *flag ? "true" : "false";
    if (value.none()) return "null";
    const double* number = value.As<double>();
    if (number == nullptr) return fmt::to_string(*value.As<int64_t>());
    if (std::isnan(*number)) return "NaN";
    if (std::isinf(*number)) return *number < 0 ? "-Infinity" : "Infinity";
    return TemplateFloat(*number);
  }

  void String(const MarkedString& text) {
    Put("\"");
    const std::string_view bytes = text.text();
    size_t at = 0;
    for (const MarkedString::Run& run : text.runs()) {
      std::string shown;
      while (at < run.end) {
        const size_t size = LookAtUtf8(bytes.substr(at)).bytes;
        const std::string escaped =
            EscapedForJson(ReadUtf8(bytes.substr(at, size)).code, style_.ensure_ascii);
        shown += escaped.empty() ? bytes.substr(at, size) : std::string_view(escaped);
        at += size;
      }
      out_.Append(shown, run.author);
    }
    Put("\"");
  }

  void NewLine(int64_t level) {
    if (!style_.indent) return;
    const int64_t spaces = std::max<int64_t>(*style_.indent, 0) * level;
    Put("\n" + std::string(static_cast<size_t>(spaces), ' '));
  }

  absl::Status List(const TemplateItems& items, int64_t level) {
    Put("[");
    for (size_t i = 0; i < items.size(); ++i) {
      if (i > 0) Put(items_);
      NewLine(level + 1);
      RETURN_IF_ERROR(Write(items[i], level + 1));
    }
    if (!items.empty()) NewLine(level);
    Put("]");
    return absl::OkStatus();
  }

  absl::Status Key(const Value& key) {
    if (key.text()) {
      String(*key.text());
    } else if (key.list() || key.dict() || !key.defined()) {
      return InvalidArgument("keys must be str, int, float, bool or None, not {}", key.type_name());
    } else {
      Put("\"" + Scalar(key) + "\"");
    }
    return absl::OkStatus();
  }

  absl::Status Dict(const TemplateDict& dict, int64_t level) {
    std::vector<const std::pair<Value, Value>*> sorted;
    for (const auto& item : dict.items) sorted.push_back(&item);
    if (style_.sort_keys) {
      for (const auto* item : sorted) {
        if (!item->first.text()) return InvalidArgument("sort_keys needs keys that are strings");
      }
      std::stable_sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) {
        return a->first.text()->text() < b->first.text()->text();
      });
    }
    Put("{");
    for (size_t i = 0; i < sorted.size(); ++i) {
      if (i > 0) Put(items_);
      NewLine(level + 1);
      RETURN_IF_ERROR(Key(sorted[i]->first));
      Put(pair_);
      RETURN_IF_ERROR(Write(sorted[i]->second, level + 1));
    }
    if (!sorted.empty()) NewLine(level);
    Put("}");
    return absl::OkStatus();
  }

  const TemplateJsonStyle& style_;
  const size_t most_;
  std::string items_, pair_;
  MarkedString out_;
};

}  // namespace

absl::StatusOr<MarkedString> TemplateToJson(const TemplateValue& value,
                                            const TemplateJsonStyle& style, size_t most_bytes) {
  Writer writer(style, most_bytes);
  RETURN_IF_ERROR(writer.Write(value, 0));
  return writer.Take();
}

TemplateValue TemplateFromJson(const nlohmann::ordered_json& json, Author author) {
  if (json.is_string()) return Value(MarkedString(json.get<std::string>(), author));
  if (json.is_boolean()) return Value(json.get<bool>());
  if (json.is_number_unsigned() && json.get<uint64_t>() > INT64_MAX) {
    return Value(json.get<double>());
  }
  if (json.is_number_integer()) return Value(json.get<int64_t>());
  if (json.is_number()) return Value(json.get<double>());
  if (json.is_array()) {
    TemplateItems items;
    for (const auto& each : json) items.push_back(TemplateFromJson(each, author));
    return Value::List(std::move(items));
  }
  if (!json.is_object()) return Value(nullptr);
  std::vector<std::pair<Value, Value>> items;
  for (const auto& [key, value] : json.items()) {
    items.emplace_back(Value(MarkedString(key, author)), TemplateFromJson(value, author));
  }
  return Value::Dict(std::move(items));
}

}  // namespace conclave::worker
