#pragma once

#include <absl/status/statusor.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace conclave::worker {

// An expression of a chat template. `text` is the name, the operator or the string; `parts` are the
// operands, in order.
struct TemplateExpression {
  enum class Kind {
    kText,       // 'text'
    kInteger,    // text = digits
    kFloat,      // text = digits.digits
    kName,       // a variable, or true, false, none
    kList,       // [parts]
    kTuple,      // (parts)
    kDict,       // {part0: part1, ...}
    kAttribute,  // parts[0].text
    kItem,       // parts[0][parts[1]]
    kSlice,      // parts[0][parts[1]:parts[2]:parts[3]]; an absent bound is null
    kCall,       // parts[0](parts[1..])
    kFilter,     // parts[0] | text(parts[1..]); parts[0] is null in {% filter %}
    kTest,       // parts[0] is text(parts[1..])
    kUnary,      // text parts[0]
    kBinary,     // parts[0] text parts[1]
    kCompare,    // parts[0] names[0] parts[1] names[1] parts[2] ...
    kCondition,  // parts[0] if parts[1] else parts[2]; without else it is null
  };
  Kind kind = Kind::kText;
  std::string text;
  std::vector<std::unique_ptr<TemplateExpression>> parts;
  // kCall, kFilter, kTest: keyword of each part but the first; empty for positional ones, "*" and
  // "**" for those that are unpacked. kCompare: operators.
  std::vector<std::string> names;
  int line = 0;
};
using TemplateExpressionPtr = std::unique_ptr<TemplateExpression>;

// What a for, a set or a macro's parameters bind.
struct TemplateTarget {
  std::string name;
  std::string field;                  // "ns.field": an attribute of a namespace.
  std::vector<TemplateTarget> parts;  // Not empty: a value is unpacked.
};

// A statement of a chat template.
struct TemplateNode {
  enum class Kind {
    kText,
    kPrint,
    kIf,
    kFor,
    kSet,
    kMacro,
    kCall,    // {% call(target) value %} body
    kFilter,  // {% filter value %} body
    kScope,   // A body with variables of its own: with, generation.
    kBreak,
    kContinue,
  };
  Kind kind = Kind::kText;
  std::string text;             // kText: literal. kMacro: name.
  TemplateTarget target;        // kFor, kSet.
  TemplateExpressionPtr value;  // kPrint, kFor: sequence, kSet (null: of the body), kCall, kFilter.
  TemplateExpressionPtr filter;         // kFor: ... if filter. kSet of a body: a chain of filters.
  bool recursive = false;               // kFor.
  std::vector<std::string> parameters;  // kMacro, kCall. kScope: what `with` binds.
  std::vector<TemplateExpressionPtr> defaults;    // Of the last parameters. kScope: their values.
  std::vector<TemplateExpressionPtr> conditions;  // kIf: one for each branch but else's.
  std::vector<std::vector<TemplateNode>> body;    // kIf: branches. kFor: loop, else. Others: one.
  int line = 0;
};

// Parses with trim_blocks and lstrip_blocks. kInvalidArgument: "line N: what is wrong", naming a
// construct that is not interpreted.
absl::StatusOr<std::vector<TemplateNode>> ParseTemplate(std::string_view source);

}  // namespace conclave::worker
