#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "common/status.h"
#include "worker/text/template_operators.h"

// Python's formatting with "%".
namespace conclave::worker {
namespace {

using Value = TemplateValue;

constexpr int kMostWidth = 1000;

// One "%-08.3f" behind its "%".
struct Field {
  bool left = false, plus = false, space = false, zero = false, alternate = false;
  int width = 0, precision = -1;
  std::string name;  // "%(name)s"
  char type = 's';
};

bool ReadDigits(std::string_view& rest, int& out) {
  out = 0;
  while (!rest.empty() && rest[0] >= '0' && rest[0] <= '9') {
    out = out * 10 + (rest[0] - '0');
    if (out > kMostWidth) return false;
    rest.remove_prefix(1);
  }
  return true;
}

absl::StatusOr<Field> ReadField(std::string_view& rest) {
  Field field;
  if (rest.starts_with('(')) {
    const size_t end = rest.find(')');
    if (end == std::string_view::npos) return InvalidArgument("a format's name has no end");
    field.name = rest.substr(1, end - 1);
    rest.remove_prefix(end + 1);
  }
  for (; !rest.empty(); rest.remove_prefix(1)) {
    if (rest[0] == '-') {
      field.left = true;
    } else if (rest[0] == '+') {
      field.plus = true;
    } else if (rest[0] == ' ') {
      field.space = true;
    } else if (rest[0] == '0') {
      field.zero = true;
    } else if (rest[0] == '#') {
      field.alternate = true;
    } else {
      break;
    }
  }
  bool fits = ReadDigits(rest, field.width);
  if (fits && rest.starts_with('.')) {
    rest.remove_prefix(1);
    fits = ReadDigits(rest, field.precision);
  }
  if (!fits) return InvalidArgument("a format is wider than {}", kMostWidth);
  if (rest.empty()) return InvalidArgument("a format is incomplete");
  field.type = rest[0];
  rest.remove_prefix(1);
  return field;
}

absl::StatusOr<std::string> Number(const Field& field, const Value& value) {
  std::string spec = "%";
  spec += field.plus ? "+" : field.space ? " " : "";
  if (field.alternate) spec += '#';
  const auto print = [&](const char* tail, auto number) {
    const std::string format = spec + (field.precision >= 0 ? ".*" : "") + tail;
    char buffer[4096];
    const int size =
        field.precision >= 0
            ? std::snprintf(buffer, sizeof(buffer), format.c_str(), field.precision, number)
            : std::snprintf(buffer, sizeof(buffer), format.c_str(), number);
    return std::string(buffer, static_cast<size_t>(std::clamp(size, 0, 4095)));
  };
  const bool real = std::string_view("eEfFgG").find(field.type) != std::string_view::npos;
  double number = 0;
  int64_t integer = 0;
  if (!value.AsNumber(number)) {
    return InvalidArgument("%{} needs a number, not '{}'", field.type, value.type_name());
  }
  if (real) return print(std::string(1, field.type).c_str(), number);
  if (!value.AsInteger(integer)) {
    if (field.type != 'd' && field.type != 'i' && field.type != 'u') {
      return InvalidArgument("%{} needs an integer", field.type);
    }
    if (!(std::fabs(number) < 9e18)) return InvalidArgument("{} is too large for %d", number);
    integer = static_cast<int64_t>(number);
  }
  if (field.type == 'd' || field.type == 'i' || field.type == 'u') {
    return print("lld", static_cast<long long>(integer));
  }
  const std::string sign = integer < 0 ? "-" : "";
  const auto size = integer < 0 ? ~static_cast<uint64_t>(integer) + 1 : uint64_t(integer);
  return sign +
         print((std::string("ll") + field.type).c_str(), static_cast<unsigned long long>(size));
}

size_t Characters(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0u) != 0x80u;
  }));
}

MarkedString Cut(const MarkedString& text, int characters) {
  size_t at = 0;
  for (int n = 0; at < text.size(); ++at) {
    if ((static_cast<unsigned char>(text.text()[at]) & 0xC0u) != 0x80u && n++ == characters) break;
  }
  return text.Slice(0, at);
}

absl::StatusOr<MarkedString> Shown(TemplateMachine& machine, const Field& field,
                                   const Value& value) {
  MarkedString shown;
  if (field.type == 's') {
    ASSIGN_OR_RETURN(shown, machine.TextOf(value));
    if (field.precision >= 0) shown = Cut(shown, field.precision);
  } else if (field.type == 'r') {
    shown = TemplateRepr(value, machine.most_bytes());
  } else if (std::string_view("diuxXoeEfFgG").find(field.type) != std::string_view::npos) {
    ASSIGN_OR_RETURN(std::string number, Number(field, value));
    if (field.zero && !field.left && std::isfinite(std::strtod(number.c_str(), nullptr))) {
      const size_t sign = number.find_first_of("0123456789");
      const size_t width = static_cast<size_t>(field.width);
      if (number.size() < width) number.insert(sign, width - number.size(), '0');
    }
    shown = MarkedString::Template(std::move(number));
  } else {
    return InvalidArgument("the format '%{}' is not interpreted", field.type);
  }
  const size_t have = Characters(shown.text()), width = static_cast<size_t>(field.width);
  if (have >= width) return shown;
  MarkedString padded;
  const std::string padding(width - have, ' ');
  if (!field.left) padded.Append(padding, Author::kTemplate);
  padded.Append(shown);
  if (field.left) padded.Append(padding, Author::kTemplate);
  return padded;
}

}  // namespace

absl::StatusOr<MarkedString> TemplatePercent(TemplateMachine& machine, const MarkedString& format,
                                             const TemplateArguments& args) {
  const std::string_view all = format.text();
  MarkedString out;
  size_t at = 0, next = 0;
  while (at < all.size()) {
    const size_t percent = std::min(all.find('%', at), all.size());
    out.Append(format.Slice(at, percent - at));
    at = percent;
    if (at == all.size()) break;
    RETURN_IF_ERROR(machine.Spend(1));
    std::string_view rest = all.substr(at + 1);
    ASSIGN_OR_RETURN(const Field field, ReadField(rest));
    const size_t end = all.size() - rest.size();
    if (field.type == '%') {
      out.Append(format.Slice(end - 1, 1));
      at = end;
      continue;
    }
    const Value* value = nullptr;
    if (!field.name.empty()) {
      RETURN_IF_ERROR(machine.Spend(static_cast<int64_t>(args.named.size() / 8)));
      for (const auto& [name, each] : args.named) {
        if (name == field.name) value = &each;
      }
      const TemplateDict* dict = args.positional.empty() ? nullptr : args.positional[0].dict();
      if (value == nullptr && dict != nullptr) value = dict->Find(field.name);
    } else if (next < args.positional.size()) {
      value = &args.positional[next++];
    }
    if (value == nullptr) return InvalidArgument("not enough arguments for the format");
    ASSIGN_OR_RETURN(const MarkedString shown, Shown(machine, field, *value));
    out.Append(shown);
    if (out.size() > machine.most_bytes()) return ResourceExhausted("a format makes too much text");
    at = end;
  }
  const bool dict = args.positional.size() == 1 && args.positional[0].dict() != nullptr;
  if (next < args.positional.size() && !dict) {
    return InvalidArgument("not all arguments were used by the format");
  }
  return out;
}

}  // namespace conclave::worker
