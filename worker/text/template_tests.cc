#include <cmath>

#include "common/status.h"
#include "worker/text/template_machine.h"
#include "worker/text/template_operators.h"
#include "worker/text/template_strings.h"

namespace conclave::worker {
namespace {

using Value = TemplateValue;

// Tests of one value by what it is; false in `known` for another name.
bool IsKind(const std::string& name, const Value& value, bool& known) {
  known = true;
  const TemplateList* list = value.list();
  if (name == "defined") return value.defined();
  if (name == "undefined") return !value.defined();
  if (name == "none") return value.none();
  if (name == "string") return value.text() != nullptr;
  if (name == "mapping") return value.dict() != nullptr;
  if (name == "boolean") return value.As<bool>() != nullptr;
  if (name == "integer") return value.As<int64_t>() != nullptr;
  if (name == "float") return value.As<double>() != nullptr;
  if (name == "true") return value.As<bool>() != nullptr && *value.As<bool>();
  if (name == "false") return value.As<bool>() != nullptr && !*value.As<bool>();
  if (name == "callable") return value.callable() != nullptr;
  if (name == "number") {
    double number = 0;
    return value.AsNumber(number);
  }
  if (name == "iterable") {
    return list || value.dict() || value.text() || value.loop() || !value.defined();
  }
  if (name == "sequence") {
    return (list && list->indexed()) || value.dict() || value.text() || !value.defined();
  }
  known = false;
  return false;
}

absl::StatusOr<bool> IsNumber(const std::string& name, const Value& value,
                              const TemplateItems& args) {
  int64_t number = 0, by = 2;
  if (!value.AsInteger(number)) {
    return InvalidArgument("'{}' needs an integer, not '{}'", name, value.type_name());
  }
  if (name == "divisibleby" && (args.empty() || !args[0].AsInteger(by) || by == 0)) {
    return InvalidArgument("divisibleby needs an integer that is not 0");
  }
  const bool divides = by == -1 || number % by == 0;
  return name == "odd" ? !divides : divides;
}

}  // namespace

absl::StatusOr<bool> TestTemplateValue(TemplateMachine& machine, const std::string& name,
                                       const TemplateValue& value, const TemplateItems& args) {
  bool known = false;
  const bool is = IsKind(name, value, known);
  if (known) return is;
  if (name == "odd" || name == "even" || name == "divisibleby") return IsNumber(name, value, args);
  if (name == "lower" || name == "upper") {
    ASSIGN_OR_RETURN(const MarkedString text, machine.TextOf(value));
    ASSIGN_OR_RETURN(const Value holds, CallTemplateMethod(machine, "is" + name, Value(text), {}));
    return holds.truthy();
  }
  static constexpr std::pair<std::string_view, const char*> kOperators[] = {
      {"equalto", "=="}, {"eq", "=="},         {"==", "=="}, {"ne", "!="},
      {"lt", "<"},       {"lessthan", "<"},    {"le", "<="}, {"gt", ">"},
      {"ge", ">="},      {"greaterthan", ">"}, {"in", "in"}, {"sameas", "=="}};
  for (const auto& [test, op] : kOperators) {
    if (name != test) continue;
    if (args.size() != 1) return InvalidArgument("the test '{}' takes one argument", name);
    if (name == "sameas" && value.data.index() != args[0].data.index()) return false;
    return TemplateCompares(machine, op, value, args[0]);
  }
  return Unimplemented("the test '{}' is not interpreted", name);
}

}  // namespace conclave::worker
