#include <fmt/format.h>
#include <unicode/uchar.h>

#include <cmath>

#include "worker/text/template_value.h"
#include "worker/text/utf8.h"

// Values as Python shows them.
namespace conclave::worker {
namespace {

// Python's str.isprintable of one character.
bool Printable(uint32_t code) {
  if (code == ' ') return true;
  constexpr uint32_t kHidden = U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CS_MASK | U_GC_CO_MASK |
                               U_GC_CN_MASK | U_GC_ZL_MASK | U_GC_ZP_MASK | U_GC_ZS_MASK;
  return (U_GET_GC_MASK(static_cast<UChar32>(code)) & kHidden) == 0;
}

std::string Escaped(uint32_t code, char quote) {
  if (code == static_cast<uint32_t>(quote) || code == '\\') {
    return {'\\', static_cast<char>(code)};
  }
  if (code == '\n') return "\\n";
  if (code == '\r') return "\\r";
  if (code == '\t') return "\\t";
  if (Printable(code)) return "";  // As it is.
  if (code < 0x100) return fmt::format("\\x{:02x}", code);
  return code < 0x10000 ? fmt::format("\\u{:04x}", code) : fmt::format("\\U{:08x}", code);
}

void AppendQuoted(const MarkedString& text, size_t limit, MarkedString& out) {
  const std::string& bytes = text.text();
  const bool single = bytes.find('\'') != std::string::npos;
  const char quote = single && bytes.find('"') == std::string::npos ? '"' : '\'';
  out.Append(std::string(1, quote), Author::kTemplate);
  size_t at = 0;
  for (const MarkedString::Run& run : text.runs()) {
    std::string shown;
    while (at < run.end && out.size() + shown.size() <= limit) {
      const size_t size = LookAtUtf8(std::string_view(bytes).substr(at)).bytes;
      const Utf8Char c = ReadUtf8(std::string_view(bytes).substr(at, size));
      const std::string escaped = Escaped(c.code, quote);
      shown += escaped.empty() ? bytes.substr(at, size) : escaped;
      at += size;
    }
    out.Append(shown, run.author);
  }
  out.Append(std::string(1, quote), Author::kTemplate);
}

class Shower {
 public:
  explicit Shower(size_t limit) : limit_(limit) {}

  void Show(const TemplateValue& value) {
    if (out_.size() > limit_) return;
    if (value.text()) {
      AppendQuoted(*value.text(), limit_, out_);
    } else if (value.list()) {
      ShowList(*value.list());
    } else if (value.dict()) {
      ShowDict(*value.dict());
    } else {
      Put(Plain(value));
    }
  }
  MarkedString Take() { return std::move(out_); }

  // What holds no other value.
  static std::string Plain(const TemplateValue& value) {
    if (!value.defined()) return "Undefined";
    if (value.none()) return "None";
    if (const bool* flag = value.As<bool>()) return *flag ? "True" : "False";
    if (const int64_t* number = value.As<int64_t>()) return fmt::to_string(*number);
    if (const double* number = value.As<double>()) return TemplateFloat(*number);
    return fmt::format("<{}>", value.type_name());
  }

 private:
  void Put(std::string_view text) { out_.Append(text, Author::kTemplate); }

  void ShowItems(const TemplateItems& items) {
    for (size_t i = 0; i < items.size() && out_.size() <= limit_; ++i) {
      if (i > 0) Put(", ");
      Show(items[i]);
    }
  }

  void ShowList(const TemplateList& list) {
    using Kind = TemplateList::Kind;
    if (list.kind == Kind::kGenerator) return Put("<generator object>");
    const bool tuple = list.kind == Kind::kTuple;
    Put(tuple ? "(" : list.kind == Kind::kView ? "dict_view([" : "[");
    ShowItems(list.items);
    Put(tuple ? list.items.size() == 1 ? ",)" : ")" : list.kind == Kind::kView ? "])" : "]");
  }

  void ShowDict(const TemplateDict& dict) {
    Put("{");
    for (size_t i = 0; i < dict.items.size() && out_.size() <= limit_; ++i) {
      if (i > 0) Put(", ");
      Show(dict.items[i].first);
      Put(": ");
      Show(dict.items[i].second);
    }
    Put("}");
  }

  const size_t limit_;
  MarkedString out_;
};

}  // namespace

std::string TemplateFloat(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::string shown = fmt::to_string(value);
  if (shown.find_first_of(".e") == std::string::npos) shown += ".0";
  return shown;
}

MarkedString TemplateText(const TemplateValue& value, size_t limit) {
  if (value.text()) return *value.text();
  if (!value.defined()) return {};
  return TemplateRepr(value, limit);
}

MarkedString TemplateRepr(const TemplateValue& value, size_t limit) {
  Shower shower(limit);
  shower.Show(value);
  return shower.Take();
}

}  // namespace conclave::worker
