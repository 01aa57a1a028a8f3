#include "worker/text/template_operators.h"

#include <algorithm>
#include <cmath>

#include "common/status.h"

namespace conclave::worker {
namespace {

using Value = TemplateValue;

absl::Status Refuse(const std::string& op, const Value& a, const Value& b) {
  for (const Value* each : {&a, &b}) {
    if (const auto* missing = each->As<Value::Undefined>()) {
      return InvalidArgument("{}", missing->what);
    }
  }
  return InvalidArgument("unsupported operand types for {}: '{}' and '{}'", op, a.type_name(),
                         b.type_name());
}

absl::StatusOr<Value> OfIntegers(const std::string& op, int64_t x, int64_t y) {
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(x, y, &result);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(x, y, &result);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(x, y, &result);
  } else if (op == "**") {
    if (y < 0) return Value(std::pow(static_cast<double>(x), static_cast<double>(y)));
    result = 1;
    // Only 0, 1 and -1 survive a large power.
    for (int64_t i = 0; i < std::min<int64_t>(y, 64 + y % 2) && !overflow; ++i) {
      overflow = __builtin_mul_overflow(result, x, &result);
    }
  } else if (y == 0 || (x == INT64_MIN && y == -1)) {
    return InvalidArgument("'{}' by {}", op, y);
  } else if (op == "/") {
    return Value(static_cast<double>(x) / static_cast<double>(y));
  } else {  // Python rounds towards minus infinity.
    int64_t quotient = x / y, rest = x % y;
    if (rest != 0 && (rest < 0) != (y < 0)) {
      --quotient;
      rest += y;
    }
    result = op == "%" ? rest : quotient;
  }
  if (overflow) return InvalidArgument("'{}' is too large for an integer", op);
  return Value(result);
}

absl::StatusOr<Value> OfFloats(const std::string& op, double x, double y) {
  if (op == "+") return Value(x + y);
  if (op == "-") return Value(x - y);
  if (op == "*") return Value(x * y);
  if (op == "**") return Value(std::pow(x, y));
  if (y == 0) return InvalidArgument("'{}' by 0", op);
  if (op == "/") return Value(x / y);
  if (op == "//") return Value(std::floor(x / y));
  const double rest = std::fmod(x, y);
  return Value(rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest);
}

absl::StatusOr<Value> Repeated(TemplateMachine& machine, const Value& value, int64_t times) {
  const size_t n = times > 0 ? static_cast<size_t>(times) : 0;
  const size_t size = value.text() ? value.text()->size() : value.list()->items.size();
  if (size > 0 && n > machine.most_bytes() / size) {
    return ResourceExhausted("'*' makes more than {} bytes or elements", machine.most_bytes());
  }
  RETURN_IF_ERROR(machine.Spend(static_cast<int64_t>(size * n / 64 + (size > 0 ? n : 0))));
  if (value.text()) {
    MarkedString text;
    for (size_t i = 0; i < n && size > 0; ++i) text.Append(*value.text());
    return machine.Made(std::move(text));
  }
  TemplateItems items;
  for (size_t i = 0; i < n && size > 0; ++i) {
    items.insert(items.end(), value.list()->items.begin(), value.list()->items.end());
  }
  return machine.MadeList(std::move(items), value.list()->kind);
}

bool Repeatable(const Value& value) {
  return value.text() || (value.list() && value.list()->kind <= TemplateList::Kind::kTuple);
}

absl::StatusOr<Value> Joined(TemplateMachine& machine, const Value& a, const Value& b) {
  if (a.text()) {
    if (!b.text()) {
      return InvalidArgument("can only concatenate str (not \"{}\") to str", b.type_name());
    }
    RETURN_IF_ERROR(machine.Spend(static_cast<int64_t>(a.text()->size() / 64)));
    MarkedString text = *a.text();
    text.Append(*b.text());
    return machine.Made(std::move(text));
  }
  TemplateItems items = a.list()->items;
  items.insert(items.end(), b.list()->items.begin(), b.list()->items.end());
  if (items.size() > machine.most_bytes()) return ResourceExhausted("a list is too long");
  return machine.MadeList(std::move(items), a.list()->kind);
}

absl::StatusOr<bool> Contains(TemplateMachine& machine, const Value& whole, const Value& part) {
  if (whole.text()) {
    if (!part.text()) {
      return InvalidArgument("'in <string>' requires string as left operand, not {}",
                             part.type_name());
    }
    RETURN_IF_ERROR(machine.SpendSearch(whole.text()->size(), part.text()->size()));
    return whole.text()->text().find(part.text()->text()) != std::string::npos;
  }
  if (whole.dict()) {
    RETURN_IF_ERROR(
        machine.Spend(static_cast<int64_t>(whole.dict()->items.size()) * part.weight() / 8));
    return whole.dict()->Find(part) != nullptr;
  }
  if (whole.defined() && !whole.list()) {
    return InvalidArgument("argument of type '{}' is not iterable", whole.type_name());
  }
  RETURN_IF_ERROR(machine.Spend(whole.weight()));
  ASSIGN_OR_RETURN(const TemplateItems items, machine.ItemsOf(whole));
  return std::any_of(items.begin(), items.end(),
                     [&](const Value& each) { return TemplateEquals(each, part); });
}

}  // namespace

absl::StatusOr<TemplateValue> TemplateArithmetic(TemplateMachine& machine, const std::string& op,
                                                 const TemplateValue& a, const TemplateValue& b) {
  int64_t i = 0, j = 0;
  if (a.AsInteger(i) && b.AsInteger(j)) return OfIntegers(op, i, j);
  double x = 0, y = 0;
  if (a.AsNumber(x) && b.AsNumber(y)) return OfFloats(op, x, y);
  if (op == "%" && a.text() && b.defined()) {
    TemplateArguments args;
    if (b.list() && b.list()->kind == TemplateList::Kind::kTuple) {
      args.positional = b.list()->items;
    } else {
      args.positional.push_back(b);
    }
    ASSIGN_OR_RETURN(MarkedString text, TemplatePercent(machine, *a.text(), args));
    return machine.Made(std::move(text));
  }
  if (op == "+" && a.text() && b.defined()) return Joined(machine, a, b);
  if (op == "+" && a.list() && b.list() && a.list()->kind == b.list()->kind && Repeatable(a)) {
    return Joined(machine, a, b);
  }
  if (op == "*" && Repeatable(a) && b.AsInteger(j)) return Repeated(machine, a, j);
  if (op == "*" && Repeatable(b) && a.AsInteger(i)) return Repeated(machine, b, i);
  return Refuse(op, a, b);
}

absl::StatusOr<int> TemplateOrder(const TemplateValue& a, const TemplateValue& b) {
  const auto sign = [](auto x, auto y) { return x < y ? -1 : x > y ? 1 : 0; };
  int64_t i = 0, j = 0;
  if (a.AsInteger(i) && b.AsInteger(j)) return sign(i, j);
  double x = 0, y = 0;
  if (a.AsNumber(x) && b.AsNumber(y)) return sign(x, y);
  // UTF-8 orders as characters do.
  if (a.text() && b.text()) return sign(a.text()->text().compare(b.text()->text()), 0);
  if (a.list() && b.list() && a.list()->kind == b.list()->kind && Repeatable(a)) {
    const TemplateItems &left = a.list()->items, &right = b.list()->items;
    for (size_t n = 0; n < std::min(left.size(), right.size()); ++n) {
      if (TemplateEquals(left[n], right[n])) continue;
      return TemplateOrder(left[n], right[n]);
    }
    return sign(left.size(), right.size());
  }
  return Refuse("an order", a, b);
}

absl::StatusOr<bool> TemplateCompares(TemplateMachine& machine, const std::string& op,
                                      const TemplateValue& a, const TemplateValue& b) {
  RETURN_IF_ERROR(machine.Spend(std::min(a.weight(), b.weight())));
  if (op == "==") return TemplateEquals(a, b);
  if (op == "!=") return !TemplateEquals(a, b);
  if (op == "in" || op == "not in") {
    ASSIGN_OR_RETURN(const bool contained, Contains(machine, b, a));
    return contained == (op == "in");
  }
  double x = 0, y = 0;
  if (a.AsNumber(x) && b.AsNumber(y) && (std::isnan(x) || std::isnan(y))) return false;
  auto order = TemplateOrder(a, b);
  if (!order.ok()) return Refuse("'" + op + "'", a, b);
  if (op == "<") return *order < 0;
  if (op == ">") return *order > 0;
  return op == "<=" ? *order <= 0 : *order >= 0;
}

}  // namespace conclave::worker
