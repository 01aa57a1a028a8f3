#include <algorithm>
#include <charconv>
#include <utility>

#include "common/status.h"
#include "worker/text/template_machine.h"
#include "worker/text/template_operators.h"
#include "worker/text/template_scopes.h"
#include "worker/text/utf8.h"

namespace conclave::worker {
namespace {

using Value = TemplateValue;

absl::Status Undefined(const Value& value) {
  return InvalidArgument("{}", value.As<Value::Undefined>()->what);
}

// The characters of a text.
TemplateItems Characters(const MarkedString& text) {
  TemplateItems items;
  for (size_t at = 0; at < text.size();) {
    const size_t size = LookAtUtf8(std::string_view(text.text()).substr(at)).bytes;
    items.emplace_back(text.Slice(at, size));
    at += size;
  }
  return items;
}

// Where the characters of a text begin, and its end.
std::vector<size_t> Starts(const std::string& text) {
  std::vector<size_t> starts;
  for (size_t at = 0; at < text.size(); ++at) {
    if ((static_cast<unsigned char>(text[at]) & 0xC0u) != 0x80u) starts.push_back(at);
  }
  starts.push_back(text.size());
  return starts;
}

// Where Python's slice goes: from, then every step, count times.
struct Steps {
  int64_t from = 0, step = 1, count = 0;
};

absl::StatusOr<Steps> StepsOf(const Value* bounds, int64_t size) {
  int64_t given[3] = {0, 0, 1};
  bool has[3];
  for (int i = 0; i < 3; ++i) {
    has[i] = bounds[i].defined() && !bounds[i].none();
    if (has[i] && !bounds[i].AsInteger(given[i])) {
      return InvalidArgument("a slice's bound is '{}', no integer", bounds[i].type_name());
    }
  }
  if (given[2] == 0) return InvalidArgument("a slice's step is 0");
  const int64_t step = std::clamp(given[2], -size - 1, size + 1);
  const auto clamp = [&](int64_t at) {
    return std::clamp(at < 0 ? at + size : at, step > 0 ? int64_t{0} : int64_t{-1},
                      step > 0 ? size : size - 1);
  };
  const int64_t from = has[0] ? clamp(given[0]) : step > 0 ? 0 : size - 1;
  const int64_t to = has[1] ? clamp(given[1]) : step > 0 ? size : -1;
  const int64_t gap = step > 0 ? to - from : from - to;
  const int64_t stride = step > 0 ? step : -step;
  return Steps{from, step, gap > 0 ? (gap + stride - 1) / stride : 0};
}

}  // namespace

absl::StatusOr<MarkedString> TemplateMachine::TextOf(const Value& value) {
  if (value.text()) return *value.text();
  MarkedString text = TemplateText(value, limits_.output_bytes);
  RETURN_IF_ERROR(Spend(static_cast<int64_t>(text.size() / 16)));
  if (text.size() > limits_.output_bytes) {
    return ResourceExhausted("a string has more than {} bytes", limits_.output_bytes);
  }
  return text;
}

absl::StatusOr<TemplateItems> TemplateMachine::ItemsOf(const Value& value) {
  TemplateItems items;
  if (TemplateList* list = value.list()) {
    // A generator is gone through once.
    if (list->kind == TemplateList::Kind::kGenerator) {
      items = std::exchange(list->items, {});
    } else {
      items = list->items;
    }
  } else if (value.dict()) {
    for (const auto& [key, unused] : value.dict()->items) items.push_back(key);
  } else if (value.text()) {
    // Each becomes a value.
    RETURN_IF_ERROR(SpendParts(value.text()->size()));
    items = Characters(*value.text());
  } else if (value.defined()) {
    return InvalidArgument("'{}' object is not iterable", value.type_name());
  }
  RETURN_IF_ERROR(Spend(static_cast<int64_t>(items.size() / 4)));
  return items;
}

absl::StatusOr<TemplateItems> TemplateMachine::All(const Expression& e) {
  TemplateItems values;
  for (const auto& part : e.parts) {
    ASSIGN_OR_RETURN(Value value, Evaluate(*part));
    values.push_back(std::move(value));
  }
  return values;
}

absl::StatusOr<TemplateValue> TemplateMachine::Evaluate(const Expression& e) {
  Deeper deeper(*this);
  absl::Status status = deeper.Check();
  if (status.ok()) status = Spend(1);
  if (!status.ok()) return AtLine(e.line, status);
  auto value = EvaluateKind(e);
  if (!value.ok()) return AtLine(e.line, value.status());
  return value;
}

absl::StatusOr<TemplateValue> TemplateMachine::EvaluateKind(const Expression& e) {
  using Kind = Expression::Kind;
  switch (e.kind) {
    case Kind::kText:
      return Made(MarkedString::Template(e.text));
    case Kind::kInteger: {
      int64_t number = 0;
      const auto [end, error] =
          std::from_chars(e.text.data(), e.text.data() + e.text.size(), number);
      if (error != std::errc()) return InvalidArgument("{} is too large", e.text);
      return Value(number);
    }
    case Kind::kFloat: {
      double number = 0;
      std::from_chars(e.text.data(), e.text.data() + e.text.size(), number);
      return Value(number);
    }
    case Kind::kName:
      return Name(e.text);
    case Kind::kList:
    case Kind::kTuple: {
      ASSIGN_OR_RETURN(auto values, All(e));
      return MadeList(std::move(values), e.kind == Kind::kList ? TemplateList::Kind::kList
                                                               : TemplateList::Kind::kTuple);
    }
    case Kind::kDict:
      return Dict(e);
    case Kind::kAttribute: {
      ASSIGN_OR_RETURN(const Value value, Evaluate(*e.parts[0]));
      return Attribute(value, e.text);
    }
    case Kind::kItem: {
      ASSIGN_OR_RETURN(const Value value, Evaluate(*e.parts[0]));
      ASSIGN_OR_RETURN(const Value key, Evaluate(*e.parts[1]));
      return Item(value, key);
    }
    case Kind::kSlice:
      return Slice(e);
    case Kind::kCall: {
      ASSIGN_OR_RETURN(const Value callee, Evaluate(*e.parts[0]));
      ASSIGN_OR_RETURN(TemplateArguments args, Arguments(e));
      return Call(callee, std::move(args));
    }
    case Kind::kFilter: {
      Value value;
      if (e.parts[0] != nullptr) {
        ASSIGN_OR_RETURN(value, Evaluate(*e.parts[0]));
      } else {
        value = std::exchange(piped_, Value());
      }
      ASSIGN_OR_RETURN(const TemplateArguments args, Arguments(e));
      return CallTemplateFilter(*this, e.text, value, args);
    }
    case Kind::kTest: {
      ASSIGN_OR_RETURN(const Value value, Evaluate(*e.parts[0]));
      ASSIGN_OR_RETURN(const TemplateArguments args, Arguments(e));
      ASSIGN_OR_RETURN(const bool holds, TestTemplateValue(*this, e.text, value, args.positional));
      return Value(holds);
    }
    case Kind::kUnary:
      return Unary(e);
    case Kind::kBinary:
      return Binary(e);
    case Kind::kCompare:
      return Compare(e);
    case Kind::kCondition:
      return Condition(e);
  }
  return Value();
}

absl::StatusOr<TemplateValue> TemplateMachine::Name(const std::string& name) {
  if (name == "true" || name == "True") return Value(true);
  if (name == "false" || name == "False") return Value(false);
  if (name == "none" || name == "None") return Value(nullptr);
  for (const TemplateScope* scope = scope_; scope != nullptr; scope = scope->parent) {
    const auto found = scope->variables.find(name);
    if (found != scope->variables.end()) return found->second;
  }
  for (const char* function : {"namespace", "range", "dict", "raise_exception", "strftime_now"}) {
    if (name != function) continue;
    auto callable = std::make_shared<TemplateCallable>();
    callable->name = name;
    return Value(std::shared_ptr<const TemplateCallable>(std::move(callable)));
  }
  return Value::Missing(fmt::format("'{}' is undefined", name));
}

absl::StatusOr<TemplateValue> TemplateMachine::Dict(const Expression& e) {
  ASSIGN_OR_RETURN(const TemplateItems parts, All(e));
  std::vector<std::pair<Value, Value>> items;
  for (size_t i = 0; i + 1 < parts.size(); i += 2) {
    if (parts[i].list() || parts[i].dict()) {
      return InvalidArgument("unhashable type: '{}'", parts[i].type_name());
    }
    RETURN_IF_ERROR(Spend(static_cast<int64_t>(items.size()) * parts[i].weight() / 8));
    const auto same = std::find_if(items.begin(), items.end(), [&](const auto& item) {
      return TemplateEquals(item.first, parts[i]);
    });
    if (same != items.end()) {
      same->second = parts[i + 1];
    } else {
      items.emplace_back(parts[i], parts[i + 1]);
    }
  }
  return Made(Value::Dict(std::move(items)));
}

absl::StatusOr<TemplateValue> TemplateMachine::Condition(const Expression& e) {
  ASSIGN_OR_RETURN(const Value condition, Evaluate(*e.parts[1]));
  if (condition.truthy()) return Evaluate(*e.parts[0]);
  if (e.parts[2] != nullptr) return Evaluate(*e.parts[2]);
  return Value::Missing("the condition does not hold, and there is no 'else'");
}

absl::StatusOr<TemplateValue> TemplateMachine::Attribute(const Value& value,
                                                         const std::string& name) {
  if (!value.defined()) return Undefined(value);
  if (value.space() != nullptr) {
    RETURN_IF_ERROR(Spend(static_cast<int64_t>(value.space()->fields.size() / 16)));
    if (const Value* field = value.space()->Find(name)) return *field;
  } else if (value.loop() != nullptr) {
    return LoopAttribute(*value.loop(), value, name);
  } else if (HasTemplateMethod(value, name)) {
    auto method = std::make_shared<TemplateCallable>();
    method->kind = TemplateCallable::Kind::kMethod;
    method->name = name;
    method->self = value;
    return Value(std::shared_ptr<const TemplateCallable>(std::move(method)));
  } else if (value.dict() != nullptr) {
    RETURN_IF_ERROR(Spend(static_cast<int64_t>(value.dict()->items.size() / 8)));
    if (const Value* found = value.dict()->Find(name)) return *found;
  }
  return Value::Missing(fmt::format("'{} object' has no attribute '{}'", value.type_name(), name));
}

absl::StatusOr<TemplateValue> TemplateMachine::Item(const Value& value, const Value& key) {
  if (!value.defined()) return Undefined(value);
  if (value.dict() != nullptr) {
    RETURN_IF_ERROR(Spend(static_cast<int64_t>(value.dict()->items.size()) * key.weight() / 8));
    if (const Value* found = value.dict()->Find(key)) return *found;
  }
  int64_t index = 0;
  if (key.AsInteger(index) && value.list() && value.list()->indexed()) {
    const TemplateItems& items = value.list()->items;
    const int64_t size = static_cast<int64_t>(items.size());
    if (index < 0) index += size;
    if (index >= 0 && index < size) return items[static_cast<size_t>(index)];
  } else if (key.AsInteger(index) && value.text()) {
    RETURN_IF_ERROR(Spend(static_cast<int64_t>(value.text()->size() / 16)));
    const std::vector<size_t> starts = Starts(value.text()->text());
    const int64_t size = static_cast<int64_t>(starts.size()) - 1;
    if (index < 0) index += size;
    const size_t at = static_cast<size_t>(index);
    if (index >= 0 && index < size) {
      return Made(value.text()->Slice(starts[at], starts[at + 1] - starts[at]));
    }
  } else if (key.text() != nullptr) {
    return Attribute(value, key.text()->text());
  }
  return Value::Missing(fmt::format("'{} object' has no such element", value.type_name()));
}

absl::StatusOr<TemplateValue> TemplateMachine::Slice(const Expression& e) {
  ASSIGN_OR_RETURN(const Value value, Evaluate(*e.parts[0]));
  Value bounds[3];
  for (size_t i = 0; i < 3; ++i) {
    if (e.parts[i + 1] == nullptr) continue;
    ASSIGN_OR_RETURN(bounds[i], Evaluate(*e.parts[i + 1]));
    if (!bounds[i].defined()) return Undefined(bounds[i]);
  }
  if (!value.defined()) return Undefined(value);
  const bool listed = value.list() && value.list()->indexed();
  if (!listed && !value.text()) {
    return InvalidArgument("'{}' object is not subscriptable", value.type_name());
  }
  if (!listed) return SliceOfText(*value.text(), bounds);
  const TemplateItems& all = value.list()->items;
  ASSIGN_OR_RETURN(const Steps steps, StepsOf(bounds, static_cast<int64_t>(all.size())));
  TemplateItems part;
  for (int64_t n = 0; n < steps.count; ++n) {
    part.push_back(all[static_cast<size_t>(steps.from + n * steps.step)]);
  }
  return MadeList(std::move(part), value.list()->kind);
}

absl::StatusOr<TemplateValue> TemplateMachine::SliceOfText(const MarkedString& text,
                                                           const Value* bounds) {
  RETURN_IF_ERROR(Spend(static_cast<int64_t>(text.size() / 16)));
  const std::vector<size_t> starts = Starts(text.text());
  ASSIGN_OR_RETURN(const Steps steps, StepsOf(bounds, static_cast<int64_t>(starts.size()) - 1));
  const size_t from = static_cast<size_t>(steps.from);
  if (steps.step == 1) {
    const size_t end = starts[from + static_cast<size_t>(steps.count)];
    return Made(text.Slice(starts[from], end - starts[from]));
  }
  RETURN_IF_ERROR(Spend(steps.count));
  MarkedString part;
  for (int64_t n = 0; n < steps.count; ++n) {
    const size_t at = static_cast<size_t>(steps.from + n * steps.step);
    part.Append(text.Slice(starts[at], starts[at + 1] - starts[at]));
  }
  return Made(std::move(part));
}

absl::StatusOr<TemplateValue> TemplateMachine::Unary(const Expression& e) {
  ASSIGN_OR_RETURN(const Value value, Evaluate(*e.parts[0]));
  if (e.text == "not") return Value(!value.truthy());
  int64_t integer = 0;
  if (value.AsInteger(integer)) {
    if (integer == INT64_MIN) return InvalidArgument("'-' is too large for an integer");
    return Value(e.text == "-" ? -integer : integer);
  }
  if (const double* number = value.As<double>()) {
    return Value(e.text == "-" ? -*number : *number);
  }
  if (!value.defined()) return Undefined(value);
  return InvalidArgument("bad operand type for unary {}: '{}'", e.text, value.type_name());
}

absl::StatusOr<TemplateValue> TemplateMachine::Binary(const Expression& e) {
  ASSIGN_OR_RETURN(const Value a, Evaluate(*e.parts[0]));
  if (e.text == "and") return a.truthy() ? Evaluate(*e.parts[1]) : a;
  if (e.text == "or") return a.truthy() ? a : Evaluate(*e.parts[1]);
  ASSIGN_OR_RETURN(const Value b, Evaluate(*e.parts[1]));
  if (e.text != "~") return TemplateArithmetic(*this, e.text, a, b);
  ASSIGN_OR_RETURN(MarkedString joined, TextOf(a));
  ASSIGN_OR_RETURN(const MarkedString rest, TextOf(b));
  joined.Append(rest);
  return Made(std::move(joined));
}

absl::StatusOr<TemplateValue> TemplateMachine::Compare(const Expression& e) {
  ASSIGN_OR_RETURN(Value left, Evaluate(*e.parts[0]));
  for (size_t i = 0; i < e.names.size(); ++i) {
    ASSIGN_OR_RETURN(Value right, Evaluate(*e.parts[i + 1]));
    ASSIGN_OR_RETURN(const bool holds, TemplateCompares(*this, e.names[i], left, right));
    if (!holds) return Value(false);
    left = std::move(right);
  }
  return Value(true);
}

}  // namespace conclave::worker
