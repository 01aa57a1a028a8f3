#include <unicode/uchar.h>

#include <algorithm>
#include <utility>

#include "common/status.h"
#include "worker/text/template_machine.h"
#include "worker/text/template_operators.h"
#include "worker/text/template_strings.h"
#include "worker/text/utf8.h"

namespace conclave::worker {
namespace {

using Value = TemplateValue;
using Result = absl::StatusOr<Value>;
using Bound = std::vector<const Value*>;

constexpr std::string_view kTextMethods =
    " strip lstrip rstrip split rsplit splitlines startswith endswith replace upper lower title "
    "capitalize join find rfind index count isdigit isalpha isalnum isspace isupper islower format "
    "removeprefix removesuffix zfill ljust rjust partition rpartition ";
constexpr std::string_view kDictMethods =
    " items keys values get copy clear pop popitem setdefault update ";
constexpr std::string_view kListMethods =
    " count index copy append clear pop reverse insert sort extend remove ";
// Those that change what they are called of, which the sandbox of Hugging Face refuses.
constexpr std::string_view kChanging =
    " clear pop popitem setdefault update append reverse insert sort extend remove ";

bool Among(std::string_view spaced, std::string_view name) {
  return name.find(' ') == std::string_view::npos &&
         spaced.find(" " + std::string(name) + " ") != std::string_view::npos;
}

absl::StatusOr<const MarkedString*> TextArgument(std::string_view method, const Value* value) {
  if (value != nullptr && value->text() != nullptr) return value->text();
  return InvalidArgument("{} takes a string, not '{}'", method,
                         value != nullptr ? value->type_name() : "nothing");
}

// A bound of find and its kin in characters, as a byte.
absl::StatusOr<size_t> ByteOf(const MarkedString& text, const Value* value, size_t fallback) {
  if (value == nullptr || value->none()) return fallback;
  ASSIGN_OR_RETURN(int64_t at, IntegerArgument("a position", value, 0));
  const int64_t length = TemplateTextLength(text);
  at = std::clamp(at < 0 ? at + length : at, int64_t{0}, length);
  size_t byte = 0;
  for (; at > 0; --at) byte += ReadUtf8(std::string_view(text.text()).substr(byte)).bytes;
  return byte;
}

Result Strip(TemplateMachine& machine, const std::string& name, const MarkedString& text,
             const TemplateArguments& args) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments(name, args, {"chars"}));
  const TextSide side = name == "lstrip"   ? TextSide::kLeft
                        : name == "rstrip" ? TextSide::kRight
                                           : TextSide::kBoth;
  if (bound[0] == nullptr || bound[0]->none()) {
    return machine.Made(StripTemplateText(text, nullptr, side));
  }
  ASSIGN_OR_RETURN(const MarkedString* chars, TextArgument(name, bound[0]));
  const std::string_view set = chars->text();
  RETURN_IF_ERROR(machine.SpendSearch(text.size() + set.size(), set.size()));
  return machine.Made(StripTemplateText(text, &set, side));
}

Result ListOf(TemplateMachine& machine, std::vector<MarkedString> parts) {
  TemplateItems items;
  for (MarkedString& part : parts) items.emplace_back(std::move(part));
  return machine.MadeList(std::move(items));
}

Result Split(TemplateMachine& machine, const std::string& name, const MarkedString& text,
             const TemplateArguments& args) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments(name, args, {"sep", "maxsplit"}));
  ASSIGN_OR_RETURN(const int64_t limit, IntegerArgument("maxsplit", bound[1], -1));
  const bool right = name == "rsplit";
  if (bound[0] == nullptr || bound[0]->none()) {
    RETURN_IF_ERROR(machine.Spend(static_cast<int64_t>(text.size() / 8)));
    RETURN_IF_ERROR(machine.SpendParts(CountTemplateWords(text)));
    return ListOf(machine, SplitTemplateText(text, limit, right));
  }
  ASSIGN_OR_RETURN(const MarkedString* separator, TextArgument(name, bound[0]));
  if (separator->empty()) return InvalidArgument("{}: the separator is empty", name);
  RETURN_IF_ERROR(machine.SpendSearch(text.size(), separator->size()));
  RETURN_IF_ERROR(machine.SpendParts(CountTemplateParts(text, separator->text(), limit)));
  return ListOf(machine, right ? SplitTemplateTextRight(text, separator->text(), limit)
                               : text.Split(separator->text(), limit));
}

Result Partition(TemplateMachine& machine, const std::string& name, const MarkedString& text,
                 const TemplateArguments& args) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments(name, args, {"sep"}));
  ASSIGN_OR_RETURN(const MarkedString* separator, TextArgument(name, bound[0]));
  if (separator->empty()) return InvalidArgument("{}: the separator is empty", name);
  RETURN_IF_ERROR(machine.SpendSearch(text.size(), separator->size()));
  const bool right = name == "rpartition";
  const size_t at =
      right ? text.text().rfind(separator->text()) : text.text().find(separator->text());
  TemplateItems parts(3, Value(MarkedString()));
  if (at == std::string::npos) {
    parts[right ? 2 : 0] = Value(text);
  } else {
    parts[0] = Value(text.Slice(0, at));
    parts[1] = Value(text.Slice(at, separator->size()));
    parts[2] = Value(text.Slice(at + separator->size()));
  }
  return machine.MadeList(std::move(parts), TemplateList::Kind::kTuple);
}

Result Affix(TemplateMachine& machine, const std::string& name, const MarkedString& text,
             const TemplateArguments& args) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments(name, args, {"prefix"}));
  const auto holds = [&](const MarkedString& affix) {
    return name == "startswith" ? text.text().starts_with(affix.text())
                                : text.text().ends_with(affix.text());
  };
  if (bound[0] != nullptr && bound[0]->list() != nullptr) {  // Any of a tuple.
    RETURN_IF_ERROR(machine.Spend(bound[0]->weight()));
    for (const Value& each : bound[0]->list()->items) {
      ASSIGN_OR_RETURN(const MarkedString* affix, TextArgument(name, &each));
      if (holds(*affix)) return Value(true);
    }
    return Value(false);
  }
  ASSIGN_OR_RETURN(const MarkedString* affix, TextArgument(name, bound[0]));
  return Value(holds(*affix));
}

Result RemoveAffix(TemplateMachine& machine, const std::string& name, const MarkedString& text,
                   const TemplateArguments& args) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments(name, args, {"affix"}));
  ASSIGN_OR_RETURN(const MarkedString* affix, TextArgument(name, bound[0]));
  const size_t size = affix->size();
  if (name == "removeprefix" && text.text().starts_with(affix->text())) {
    return machine.Made(text.Slice(size));
  }
  if (name == "removesuffix" && text.text().ends_with(affix->text())) {
    return machine.Made(text.Slice(0, text.size() - size));
  }
  return Value(text);
}

Result Join(TemplateMachine& machine, const MarkedString& glue, const TemplateArguments& args) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments("join", args, {"iterable"}));
  if (bound[0] == nullptr) return InvalidArgument("join takes a list");
  ASSIGN_OR_RETURN(const TemplateItems items, machine.ItemsOf(*bound[0]));
  MarkedString out;
  for (size_t i = 0; i < items.size(); ++i) {
    ASSIGN_OR_RETURN(const MarkedString* each, TextArgument("join", &items[i]));
    if (i > 0) out.Append(glue);
    out.Append(*each);
    if (out.size() > machine.most_bytes()) return ResourceExhausted("join makes too long a text");
  }
  return machine.Made(std::move(out));
}

Result Find(TemplateMachine& machine, const std::string& name, const MarkedString& text,
            const TemplateArguments& args) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments(name, args, {"sub", "start", "end"}));
  ASSIGN_OR_RETURN(const MarkedString* part, TextArgument(name, bound[0]));
  RETURN_IF_ERROR(machine.SpendSearch(text.size(), part->size()));
  ASSIGN_OR_RETURN(const size_t begin, ByteOf(text, bound[1], 0));
  ASSIGN_OR_RETURN(const size_t end, ByteOf(text, bound[2], text.size()));
  const std::string_view where =
      std::string_view(text.text()).substr(begin, end > begin ? end - begin : 0);
  if (name == "count") {
    int64_t count = 0;
    if (part->empty()) return Value(TemplateTextLength(text.Slice(begin, where.size())) + 1);
    for (size_t at = where.find(part->text()); at != std::string_view::npos;
         at = where.find(part->text(), at + part->size())) {
      ++count;
    }
    return Value(count);
  }
  const size_t at = name == "rfind" ? where.rfind(part->text()) : where.find(part->text());
  if (at != std::string_view::npos) return Value(TemplateTextLength(text.Slice(0, begin + at)));
  if (name == "index") return InvalidArgument("index: substring not found");
  return Value(int64_t{-1});
}

// isdigit and its kin: every character has the property, and there is one.
Result Is(const std::string& name, const MarkedString& text) {
  bool all = !text.empty(), cased = false;
  std::string_view rest = text.text();
  while (!rest.empty() && all) {
    const Utf8Char c = ReadUtf8(rest);
    const auto code = static_cast<UChar32>(c.code);
    rest.remove_prefix(c.bytes);
    const uint32_t kind = U_GET_GC_MASK(code);
    const bool letter = (kind & U_GC_L_MASK) != 0;
    const bool upper =
        u_hasBinaryProperty(code, UCHAR_UPPERCASE) != 0 || (kind & U_GC_LT_MASK) != 0;
    const bool lower = u_hasBinaryProperty(code, UCHAR_LOWERCASE) != 0;
    const int type = u_getIntPropertyValue(code, UCHAR_NUMERIC_TYPE);
    const bool digit = type == U_NT_DECIMAL || type == U_NT_DIGIT;
    cased = cased || upper || lower;
    if (name == "isdigit") all = digit;
    if (name == "isalpha") all = letter;
    if (name == "isalnum") all = letter || type != U_NT_NONE;
    if (name == "isspace") all = IsPythonSpace(c.code);
    if (name == "isupper") all = !lower && (kind & U_GC_LT_MASK) == 0;
    if (name == "islower") all = !upper;
  }
  return Value(all && (cased || (name != "isupper" && name != "islower")));
}

Result Pad(TemplateMachine& machine, const std::string& name, const MarkedString& text,
           const TemplateArguments& args) {
  ASSIGN_OR_RETURN(const Bound bound, BindArguments(name, args, {"width", "fillchar"}));
  ASSIGN_OR_RETURN(const int64_t width, IntegerArgument("width", bound[0], 0));
  MarkedString fill = MarkedString::Template(name == "zfill" ? "0" : " ");
  if (bound[1] != nullptr) {
    ASSIGN_OR_RETURN(const MarkedString* one, TextArgument(name, bound[1]));
    if (TemplateTextLength(*one) != 1) return InvalidArgument("{} fills with one character", name);
    fill = *one;
  }
  const int64_t missing = width - TemplateTextLength(text);
  if (missing > static_cast<int64_t>(machine.most_bytes() / 4)) {
    return ResourceExhausted("{} makes too long a text", name);
  }
  RETURN_IF_ERROR(machine.Spend(std::max<int64_t>(missing, 0) / 8));
  MarkedString padding;
  for (int64_t i = 0; i < missing; ++i) padding.Append(fill);
  const bool sign =
      name == "zfill" && (text.text().starts_with('-') || text.text().starts_with('+'));
  MarkedString out = name == "ljust" ? text : text.Slice(0, sign ? 1 : 0);
  out.Append(padding);
  if (name != "ljust") out.Append(text.Slice(sign ? 1 : 0));
  return machine.Made(std::move(out));
}

// str.format with {}, {0} and {name}; format specifications are not interpreted.
Result Format(TemplateMachine& machine, const MarkedString& text, const TemplateArguments& args) {
  const std::string_view all = text.text();
  MarkedString out;
  size_t next = 0;
  for (size_t at = 0; at < all.size();) {
    const size_t brace = std::min(all.find_first_of("{}", at), all.size());
    out.Append(text.Slice(at, brace - at));
    at = brace;
    if (at == all.size()) break;
    RETURN_IF_ERROR(machine.Spend(1));
    if (at + 1 < all.size() && all[at + 1] == all[at]) {
      out.Append(text.Slice(at, 1));
      at += 2;
      continue;
    }
    const size_t end = all.find('}', at);
    if (all[at] == '}' || end == std::string_view::npos) {
      return InvalidArgument("format: a single '{}'", all[at]);
    }
    const std::string name(all.substr(at + 1, end - at - 1));
    const Value* value = nullptr;
    RETURN_IF_ERROR(machine.Spend(static_cast<int64_t>(args.named.size() / 8)));
    if (name.find_first_not_of("0123456789") == std::string::npos && name.size() < 4) {
      const size_t index = name.empty() ? next++ : static_cast<size_t>(std::stoi(name));
      if (index < args.positional.size()) value = &args.positional[index];
    } else {
      for (const auto& [keyword, each] : args.named) {
        if (keyword == name) value = &each;
      }
    }
    if (value == nullptr) return InvalidArgument("format: there is nothing for '{{{}}}'", name);
    ASSIGN_OR_RETURN(const MarkedString shown, machine.TextOf(*value));
    out.Append(shown);
    if (out.size() > machine.most_bytes()) return ResourceExhausted("format makes too much text");
    at = end + 1;
  }
  return machine.Made(std::move(out));
}

Result TextMethod(TemplateMachine& machine, const std::string& name, const MarkedString& text,
                  const TemplateArguments& args) {
  RETURN_IF_ERROR(machine.Spend(static_cast<int64_t>(text.size() / 64)));
  if (name.ends_with("strip")) return Strip(machine, name, text, args);
  if (name == "split" || name == "rsplit") return Split(machine, name, text, args);
  if (name.ends_with("partition")) return Partition(machine, name, text, args);
  if (name.ends_with("swith")) return Affix(machine, name, text, args);
  if (name.starts_with("remove")) return RemoveAffix(machine, name, text, args);
  if (name == "join") return Join(machine, text, args);
  if (name == "format") return Format(machine, text, args);
  if (name == "replace") {
    if (!args.named.empty()) return InvalidArgument("replace takes no keyword arguments");
    return CallTemplateFilter(machine, name, Value(text), args);
  }
  if (name.ends_with("just") || name == "zfill") return Pad(machine, name, text, args);
  if (name.ends_with("find") || name == "index" || name == "count") {
    return Find(machine, name, text, args);
  }
  if (name == "splitlines") {
    ASSIGN_OR_RETURN(const Bound bound, BindArguments(name, args, {"keepends"}));
    RETURN_IF_ERROR(machine.Spend(static_cast<int64_t>(text.size() / 8)));
    RETURN_IF_ERROR(machine.SpendParts(CountTemplateLines(text)));
    return ListOf(machine, TemplateLines(text, FlagArgument(bound[0])));
  }
  RETURN_IF_ERROR(BindArguments(name, args, {}).status());
  if (name.starts_with("is")) return Is(name, text);
  return machine.Made(CaseTemplateText(text, name == "upper"   ? TextCase::kUpper
                                             : name == "lower" ? TextCase::kLower
                                             : name == "title" ? TextCase::kTitle
                                                               : TextCase::kCapitalize));
}

Result DictMethod(TemplateMachine& machine, const std::string& name, const Value& self,
                  const TemplateArguments& args) {
  const TemplateDict& dict = *self.dict();
  if (name == "get") {
    ASSIGN_OR_RETURN(const Bound bound, BindArguments(name, args, {"key", "default"}));
    if (bound[0] == nullptr) return InvalidArgument("get takes a key");
    RETURN_IF_ERROR(
        machine.Spend(static_cast<int64_t>(dict.items.size()) * bound[0]->weight() / 8));
    if (const Value* found = dict.Find(*bound[0])) return *found;
    return bound[1] != nullptr ? *bound[1] : Value(nullptr);
  }
  RETURN_IF_ERROR(BindArguments(name, args, {}).status());
  if (name == "copy") return self;
  TemplateItems items;
  for (const auto& [key, value] : dict.items) {
    items.push_back(name == "keys" ? key : name == "values" ? value : Value::Tuple({key, value}));
  }
  return machine.MadeList(std::move(items), TemplateList::Kind::kView);
}

Result ListMethod(TemplateMachine& machine, const std::string& name, const Value& self,
                  const TemplateArguments& args) {
  if (name == "copy") return self;
  ASSIGN_OR_RETURN(const Bound bound, BindArguments(name, args, {"value"}));
  if (bound[0] == nullptr) return InvalidArgument("{} takes a value", name);
  RETURN_IF_ERROR(machine.Spend(self.weight()));
  const TemplateItems& items = self.list()->items;
  const auto equal = [&](const Value& each) { return TemplateEquals(each, *bound[0]); };
  if (name == "count") return Value(int64_t{std::count_if(items.begin(), items.end(), equal)});
  const auto found = std::find_if(items.begin(), items.end(), equal);
  if (found == items.end()) return InvalidArgument("index: the value is not in the list");
  return Value(int64_t{found - items.begin()});
}

}  // namespace

bool HasTemplateMethod(const TemplateValue& self, std::string_view name) {
  if (self.text()) return Among(kTextMethods, name);
  if (self.dict()) return Among(kDictMethods, name);
  if (self.list() == nullptr) return false;
  using Kind = TemplateList::Kind;
  if (self.list()->kind == Kind::kTuple) return name == "count" || name == "index";
  return self.list()->kind == Kind::kList && Among(kListMethods, name);
}

absl::StatusOr<TemplateValue> CallTemplateMethod(TemplateMachine& machine, const std::string& name,
                                                 const TemplateValue& self,
                                                 const TemplateArguments& args) {
  if (self.text()) return TextMethod(machine, name, *self.text(), args);
  if (Among(kChanging, name)) {
    return InvalidArgument("access to attribute '{}' of '{}' object is unsafe", name,
                           self.type_name());
  }
  if (self.dict()) return DictMethod(machine, name, self, args);
  return ListMethod(machine, name, self, args);
}

}  // namespace conclave::worker
