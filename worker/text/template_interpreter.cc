#include "worker/text/template_interpreter.h"

#include <absl/time/time.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "common/status.h"

namespace conclave::worker {
namespace {

using Expression = TemplateExpression;
using Value = TemplateValue;

class Interpreter {
 public:
  Interpreter(std::map<std::string, Value> globals, int64_t time_of_day,
              const TemplateLimits& limits)
      : scopes_{std::move(globals)}, time_of_day_(time_of_day), limits_(limits) {}

  absl::Status Run(const std::vector<TemplateNode>& nodes) {
    for (const TemplateNode& node : nodes) {
      RETURN_IF_ERROR(Spend(node.line, 1));
      const absl::Status status = RunNode(node);
      if (!status.ok()) return AtLine(node.line, status);
    }
    return absl::OkStatus();
  }
  MarkedString TakeOutput() { return std::move(out_); }

 private:
  absl::Status AtLine(int line, const absl::Status& status) {
    if (placed_) return status;
    placed_ = true;
    return MakeStatus(status.code(), fmt::format("line {}: {}", line, MessageOf(status)));
  }
  absl::Status Spend(int line, int64_t steps) {
    steps_ += steps;
    if (steps_ <= limits_.steps) return absl::OkStatus();
    return AtLine(line, ResourceExhausted("the template took more than {} steps", limits_.steps));
  }

  absl::Status Print(const MarkedString& text) {
    if (out_.size() + text.size() > limits_.output_bytes) {
      return ResourceExhausted("the output has more than {} bytes", limits_.output_bytes);
    }
    out_.Append(text);
    return absl::OkStatus();
  }

  absl::Status RunNode(const TemplateNode& node) {
    switch (node.kind) {
      case TemplateNode::Kind::kText:
        return Print(MarkedString::Template(node.text));
      case TemplateNode::Kind::kPrint: {
        ASSIGN_OR_RETURN(const Value value, Evaluate(*node.value));
        return Print(value.ToText());
      }
      case TemplateNode::Kind::kIf:
        for (size_t i = 0; i < node.body.size(); ++i) {
          bool taken = i == node.conditions.size();
          if (!taken) {
            ASSIGN_OR_RETURN(const Value condition, Evaluate(*node.conditions[i]));
            taken = condition.truthy();
          }
          if (taken) return Run(node.body[i]);
        }
        return absl::OkStatus();
      case TemplateNode::Kind::kFor:
        return Loop(node);
      case TemplateNode::Kind::kSet:
        return Set(node);
    }
    return absl::OkStatus();
  }

  absl::Status Set(const TemplateNode& node) {
    Value value;
    if (node.value) {
      ASSIGN_OR_RETURN(value, Evaluate(*node.value));
    } else {
      MarkedString before = std::exchange(out_, {});
      RETURN_IF_ERROR(Run(node.body[0]));
      value = Value(std::exchange(out_, std::move(before)));
    }
    const std::string& name = node.names[0];
    const size_t dot = name.find('.');
    if (dot == std::string::npos) {
      scopes_.back()[name] = std::move(value);
      return absl::OkStatus();
    }
    const Value holder = Lookup(name.substr(0, dot));
    TemplateDict* space = holder.dict();
    if (space == nullptr || !IsNamespace(holder))
      return InvalidArgument("'{}' is no namespace", name.substr(0, dot));
    // Only namespaces change; as none holds another, no value can hold itself.
    size_t bytes = 0;
    RETURN_IF_ERROR(Weigh(value, 0, false, bytes));
    const std::string field = name.substr(dot + 1);
    for (auto& [key, held] : *space) {
      if (key.text() == field) {
        held = std::move(value);
        return absl::OkStatus();
      }
    }
    space->emplace_back(MarkedString::Template(field), std::move(value));
    return absl::OkStatus();
  }

  bool IsNamespace(const Value& value) const {
    return std::any_of(namespaces_.begin(), namespaces_.end(),
                       [&](const Value& each) { return each.dict() == value.dict(); });
  }

  // A container's cost, so that no value nests or grows beyond the limits (what it shares counts
  // each time). Namespaces inside are left out, or refused.
  absl::Status Weigh(const Value& value, int depth, bool namespaces, size_t& bytes) {
    if (++steps_ > limits_.steps || depth > limits_.depth || bytes > limits_.output_bytes) {
      return ResourceExhausted("a value is nested too deep or too large");
    }
    if (value.text()) bytes += value.text()->size();
    if (value.list()) {
      for (const Value& each : *value.list()) {
        RETURN_IF_ERROR(Weigh(each, depth + 1, namespaces, bytes));
      }
    } else if (value.dict() && IsNamespace(value)) {
      if (!namespaces) return InvalidArgument("a namespace can't hold a namespace");
    } else if (value.dict()) {
      for (const auto& [key, each] : *value.dict()) {
        bytes += key.size();
        RETURN_IF_ERROR(Weigh(each, depth + 1, namespaces, bytes));
      }
    }
    return absl::OkStatus();
  }

  // What a loop goes over: list elements, dictionary keys.
  absl::StatusOr<TemplateList> Sequence(const TemplateNode& node) {
    ASSIGN_OR_RETURN(const Value value, Evaluate(*node.value));
    TemplateList all;
    if (value.list()) {
      all = *value.list();
    } else if (value.dict()) {
      for (const auto& [key, unused] : *value.dict()) all.emplace_back(key);
    } else if (value.defined()) {
      return InvalidArgument("a loop needs a list or a dictionary");
    }
    if (!node.filter) return all;
    TemplateList kept;
    for (Value& each : all) {
      scopes_.emplace_back();
      RETURN_IF_ERROR(Bind(node.names, each));
      ASSIGN_OR_RETURN(const Value keep, Evaluate(*node.filter));
      scopes_.pop_back();
      if (keep.truthy()) kept.push_back(std::move(each));
    }
    return kept;
  }

  absl::Status Bind(const std::vector<std::string>& names, const Value& value) {
    if (names.size() == 1) {
      scopes_.back()[names[0]] = value;
      return absl::OkStatus();
    }
    const TemplateList* parts = value.list();
    if (parts == nullptr || parts->size() != names.size()) {
      return InvalidArgument("{} names for something else", names.size());
    }
    for (size_t i = 0; i < names.size(); ++i) scopes_.back()[names[i]] = (*parts)[i];
    return absl::OkStatus();
  }

  absl::Status Loop(const TemplateNode& node) {
    if (static_cast<int>(scopes_.size()) > limits_.depth)
      return ResourceExhausted("loops are nested too deep");
    ASSIGN_OR_RETURN(const TemplateList all, Sequence(node));
    if (all.empty() && node.body.size() > 1) return Run(node.body[1]);
    const int64_t n = static_cast<int64_t>(all.size());
    for (int64_t i = 0; i < n; ++i) {
      scopes_.emplace_back();
      const auto field = [](const char* name, auto value) {
        return std::pair(MarkedString::Template(name), Value(value));
      };
      TemplateDict loop = {field("index0", i),
                           field("index", i + 1),
                           field("first", i == 0),
                           field("last", i + 1 == n),
                           field("length", n),
                           {MarkedString::Template("previtem"), i > 0 ? all[i - 1] : Value()},
                           {MarkedString::Template("nextitem"), i + 1 < n ? all[i + 1] : Value()}};
      scopes_.back()["loop"] = Value::Dict(std::move(loop));
      RETURN_IF_ERROR(Bind(node.names, all[i]));
      RETURN_IF_ERROR(Run(node.body[0]));
      scopes_.pop_back();
    }
    return absl::OkStatus();
  }

  Value Lookup(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      if (const auto found = scope->find(name); found != scope->end()) return found->second;
    }
    return {};
  }

  absl::StatusOr<std::vector<Value>> All(const Expression& e, size_t from = 0) {
    std::vector<Value> values;
    for (size_t i = from; i < e.parts.size(); ++i) {
      ASSIGN_OR_RETURN(Value value, Evaluate(*e.parts[i]));
      values.push_back(std::move(value));
    }
    return values;
  }

  absl::StatusOr<Value> Evaluate(const Expression& e) {
    RETURN_IF_ERROR(Spend(e.line, 1));
    auto value = EvaluateKind(e);
    if (!value.ok()) return AtLine(e.line, value.status());
    using Kind = Expression::Kind;
    const bool made = e.kind == Kind::kList || e.kind == Kind::kDict || e.kind == Kind::kBinary ||
                      e.kind == Kind::kCall || e.kind == Kind::kFilter || e.kind == Kind::kSlice;
    if (made && (value->list() || value->dict())) {
      size_t bytes = 0;
      const absl::Status status = Weigh(*value, 0, true, bytes);
      if (!status.ok()) return AtLine(e.line, status);
    }
    if (value->text())
      RETURN_IF_ERROR(Spend(e.line, static_cast<int64_t>(value->text()->size() / 64)));
    if (value->text() && value->text()->size() > limits_.output_bytes) {
      return AtLine(e.line,
                    ResourceExhausted("a string has more than {} bytes", limits_.output_bytes));
    }
    return value;
  }

  absl::StatusOr<Value> EvaluateKind(const Expression& e) {
    using Kind = Expression::Kind;
    switch (e.kind) {
      case Kind::kText:
        return Value::Text(e.text);
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
      case Kind::kList: {
        ASSIGN_OR_RETURN(auto values, All(e));
        return Value::List(std::move(values));
      }
      case Kind::kDict: {
        TemplateDict dict;
        ASSIGN_OR_RETURN(auto values, All(e));
        for (size_t i = 0; i + 1 < values.size(); i += 2)
          dict.emplace_back(values[i].ToText(), values[i + 1]);
        return Value::Dict(std::move(dict));
      }
      case Kind::kCondition: {
        ASSIGN_OR_RETURN(const Value condition, Evaluate(*e.parts[1]));
        if (condition.truthy()) return Evaluate(*e.parts[0]);
        return e.parts[2] ? Evaluate(*e.parts[2]) : Value();
      }
      case Kind::kUnary:
        return Unary(e);
      case Kind::kBinary:
        return Binary(e);
      case Kind::kCall:
        return Call(e);
      default:
        return OfValue(e);
    }
  }

  absl::StatusOr<Value> Name(const std::string& name) const {
    if (name == "true" || name == "True") return Value(true);
    if (name == "false" || name == "False") return Value(false);
    if (name == "none" || name == "None") return Value(nullptr);
    return Lookup(name);
  }

  // Attributes, items, slices, filters and tests.
  absl::StatusOr<Value> OfValue(const Expression& e) {
    using Kind = Expression::Kind;
    if (e.kind == Kind::kSlice) return Slice(e);
    ASSIGN_OR_RETURN(const auto args, All(e));
    for (const std::string& keyword : e.names) {
      if (!keyword.empty())
        return Unimplemented("the keyword '{}' of '{}' is not interpreted", keyword, e.text);
    }
    if (e.kind == Kind::kFilter) return CallTemplateFilter(e.text, args);
    if (e.kind == Kind::kTest) {
      ASSIGN_OR_RETURN(const bool holds, TestTemplateValue(e.text, args));
      return Value(holds);
    }
    const Value key = e.kind == Kind::kAttribute ? Value::Text(e.text) : args[1];
    if (!args[0].defined())
      return InvalidArgument("'{}' of what is not defined", key.ToText().text());
    if (args[0].dict() && key.text()) return TemplateMember(*args[0].dict(), key.text()->text());
    const int64_t* index = key.As<int64_t>();
    if (args[0].list() && index) {
      const int64_t size = static_cast<int64_t>(args[0].list()->size());
      const int64_t at = *index < 0 ? *index + size : *index;
      return at >= 0 && at < size ? (*args[0].list())[at] : Value();
    }
    return Value();
  }

  absl::StatusOr<Value> Slice(const Expression& e) {
    ASSIGN_OR_RETURN(const Value value, Evaluate(*e.parts[0]));
    const TemplateList* list = value.list();
    if (list == nullptr) return Unimplemented("slices are interpreted of lists only");
    int64_t bounds[3];
    bool given[3];
    for (int i = 0; i < 3; ++i) {
      given[i] = e.parts[i + 1] != nullptr;
      if (!given[i]) continue;
      ASSIGN_OR_RETURN(const Value bound, Evaluate(*e.parts[i + 1]));
      if (!bound.As<int64_t>()) return InvalidArgument("a slice's bound is no integer");
      bounds[i] = *bound.As<int64_t>();
    }
    const int64_t size = static_cast<int64_t>(list->size());
    const int64_t step = given[2] ? std::clamp(bounds[2], -size - 1, size + 1) : 1;
    if (step == 0) return InvalidArgument("a slice's step is 0");
    const auto clamp = [size, step](int64_t at) {
      return std::clamp(at < 0 ? at + size : at, step > 0 ? int64_t{0} : int64_t{-1},
                        step > 0 ? size : size - 1);
    };
    const int64_t from = given[0] ? clamp(bounds[0]) : step > 0 ? 0 : size - 1;
    const int64_t to = given[1] ? clamp(bounds[1]) : step > 0 ? size : -1;
    TemplateList part;
    for (int64_t i = from; step > 0 ? i < to : i > to; i += step) part.push_back((*list)[i]);
    return Value::List(std::move(part));
  }

  absl::StatusOr<Value> Unary(const Expression& e) {
    ASSIGN_OR_RETURN(const Value value, Evaluate(*e.parts[0]));
    if (e.text == "not") return Value(!value.truthy());
    if (const int64_t* i = value.As<int64_t>(); i && *i != INT64_MIN)
      return Value(e.text == "-" ? -*i : *i);
    if (const double* d = value.As<double>()) return Value(e.text == "-" ? -*d : *d);
    return InvalidArgument("'{}' of what is no number", e.text);
  }

  absl::StatusOr<Value> Binary(const Expression& e) {
    ASSIGN_OR_RETURN(const Value a, Evaluate(*e.parts[0]));
    if (e.text == "and") return a.truthy() ? Evaluate(*e.parts[1]) : a;
    if (e.text == "or") return a.truthy() ? a : Evaluate(*e.parts[1]);
    ASSIGN_OR_RETURN(const Value b, Evaluate(*e.parts[1]));
    if (e.text == "==") return Value(TemplateEquals(a, b));
    if (e.text == "!=") return Value(!TemplateEquals(a, b));
    if (e.text == "in" || e.text == "not in") {
      ASSIGN_OR_RETURN(const bool contained, Contains(b, a));
      return Value(contained == (e.text == "in"));
    }
    if (e.text == "~" || (e.text == "+" && a.text() && b.text())) {
      MarkedString joined = a.ToText();
      joined.Append(b.ToText());
      return Value(std::move(joined));
    }
    if (e.text == "+" && a.list() && b.list()) {
      TemplateList joined = *a.list();
      if (joined.size() + b.list()->size() > limits_.output_bytes)
        return ResourceExhausted("a list is too long");
      joined.insert(joined.end(), b.list()->begin(), b.list()->end());
      RETURN_IF_ERROR(Spend(e.line, static_cast<int64_t>(joined.size())));
      return Value::List(std::move(joined));
    }
    return Arithmetic(e.text, a, b);
  }

  static absl::StatusOr<bool> Contains(const Value& whole, const Value& part) {
    if (whole.text() && part.text())
      return whole.text()->text().find(part.text()->text()) != std::string::npos;
    if (whole.dict()) return TemplateMember(*whole.dict(), part.ToText().text()).defined();
    if (whole.list()) {
      return std::any_of(whole.list()->begin(), whole.list()->end(),
                         [&](const Value& each) { return TemplateEquals(each, part); });
    }
    return InvalidArgument("'in' needs a string, a list or a dictionary");
  }

  static absl::StatusOr<Value> Arithmetic(const std::string& op, const Value& a, const Value& b) {
    if (a.text() && b.text()) {
      const int order = a.text()->text().compare(b.text()->text());
      if (op == "<") return Value(order < 0);
      if (op == ">") return Value(order > 0);
      if (op == "<=") return Value(order <= 0);
      if (op == ">=") return Value(order >= 0);
    }
    const int64_t *x = a.As<int64_t>(), *y = b.As<int64_t>();
    if (x == nullptr || y == nullptr) return InvalidArgument("'{}' needs two integers", op);
    if (op == "<") return Value(*x < *y);
    if (op == ">") return Value(*x > *y);
    if (op == "<=") return Value(*x <= *y);
    if (op == ">=") return Value(*x >= *y);
    int64_t result = 0;
    bool overflow = false;
    if (op == "+") {
      overflow = __builtin_add_overflow(*x, *y, &result);
    } else if (op == "-") {
      overflow = __builtin_sub_overflow(*x, *y, &result);
    } else if (op == "*") {
      overflow = __builtin_mul_overflow(*x, *y, &result);
    } else if (*y == 0 || (*x == INT64_MIN && *y == -1)) {
      return InvalidArgument("'{}' by {}", op, *y);
    } else if (op == "/") {
      return Value(static_cast<double>(*x) / static_cast<double>(*y));
    } else {  // Python rounds towards minus infinity.
      const int64_t rest = (*x % *y + *y) % *y;
      result = op == "%" ? rest : (*x - rest) / *y;
    }
    if (overflow) return InvalidArgument("'{}' is too large for an integer", op);
    return Value(result);
  }

  absl::StatusOr<Value> Call(const Expression& e) {
    const Expression& callee = *e.parts[0];
    ASSIGN_OR_RETURN(std::vector<Value> args, All(e, 1));
    if (callee.kind == Expression::Kind::kAttribute) {
      ASSIGN_OR_RETURN(Value self, Evaluate(*callee.parts[0]));
      args.insert(args.begin(), std::move(self));
      return CallTemplateMethod(callee.text, args);
    }
    const std::string name = callee.kind == Expression::Kind::kName ? callee.text : "";
    if (name == "namespace" || name == "dict") {
      TemplateDict fields;
      for (size_t i = 0; i < args.size(); ++i) {
        fields.emplace_back(MarkedString::Template(e.names[i + 1]), std::move(args[i]));
      }
      Value made = Value::Dict(std::move(fields));
      size_t bytes = 0;
      RETURN_IF_ERROR(Weigh(made, 0, name == "dict", bytes));
      if (name == "namespace") namespaces_.push_back(made);
      return made;
    }
    if (name == "raise_exception") {
      return InvalidArgument("the template refuses: {}",
                             args.empty() ? "" : args[0].ToText().text());
    }
    if (name == "strftime_now" && !args.empty()) {
      const std::string format = args[0].ToText().text();
      return Value::Text(absl::FormatTime(absl::string_view(format.data(), format.size()),
                                          absl::FromUnixSeconds(time_of_day_),
                                          absl::UTCTimeZone()));
    }
    if (name == "range") return RangeOf(args);
    return Unimplemented("the function '{}' is not interpreted", name);
  }

  absl::StatusOr<Value> RangeOf(const std::vector<Value>& args) {
    int64_t bounds[2] = {0, 0};
    if (args.empty() || args.size() > 2) return InvalidArgument("range takes one or two integers");
    for (size_t i = 0; i < args.size(); ++i) {
      if (!args[i].As<int64_t>()) return InvalidArgument("range takes integers");
      bounds[args.size() == 1 ? 1 : i] = *args[i].As<int64_t>();
    }
    if (bounds[1] > bounds[0] && bounds[1] - bounds[0] > 100'000)
      return ResourceExhausted("a range is too long");
    TemplateList list;
    for (int64_t i = bounds[0]; i < bounds[1]; ++i) list.emplace_back(i);
    return Value::List(std::move(list));
  }

  std::vector<std::map<std::string, Value>> scopes_;
  const int64_t time_of_day_;
  const TemplateLimits limits_;
  std::vector<Value> namespaces_;  // Held, so that no other value takes an address of theirs.
  int64_t steps_ = 0;
  bool placed_ = false;  // The error at hand knows its line.
  MarkedString out_;
};

}  // namespace

absl::StatusOr<MarkedString> InterpretTemplate(const std::vector<TemplateNode>& nodes,
                                               std::map<std::string, TemplateValue> globals,
                                               int64_t time_of_day, const TemplateLimits& limits) {
  Interpreter interpreter(std::move(globals), time_of_day, limits);
  RETURN_IF_ERROR(interpreter.Run(nodes));
  return interpreter.TakeOutput();
}

}  // namespace conclave::worker
