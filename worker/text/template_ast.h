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
    kDict,       // {part0: part1, ...}
    kAttribute,  // parts[0].text
    kItem,       // parts[0][parts[1]]
    kSlice,      // parts[0][parts[1]:parts[2]:parts[3]]; an absent bound is null
    kCall,       // parts[0](parts[1..]), keywords in `names`, empty for positional ones
    kFilter,     // parts[0] | text(parts[1..])
    kTest,       // parts[0] is text(parts[1..])
    kUnary,      // text parts[0]
    kBinary,     // parts[0] text parts[1]
    kCondition,  // parts[0] if parts[1] else parts[2]
  };
  Kind kind = Kind::kText;
  std::string text;
  std::vector<std::unique_ptr<TemplateExpression>> parts;
  std::vector<std::string> names;  // kCall, kFilter: keyword of each argument.
  int line = 0;
};
using TemplateExpressionPtr = std::unique_ptr<TemplateExpression>;

// A statement of a chat template.
struct TemplateNode {
  enum class Kind { kText, kPrint, kIf, kFor, kSet };
  Kind kind = Kind::kText;
  std::string text;                // kText: literal.
  std::vector<std::string> names;  // kFor, kSet: targets; "ns.field" is an attribute.
  TemplateExpressionPtr value;     // kPrint, kFor: sequence, kSet (null: of `body`).
  TemplateExpressionPtr filter;    // kFor: ... if filter.
  std::vector<TemplateExpressionPtr> conditions;  // kIf: one for each branch but else's.
  std::vector<std::vector<TemplateNode>> body;    // kIf: branches. kFor: loop, else. kSet: block.
  int line = 0;
};

// Parses with trim_blocks and lstrip_blocks. kInvalidArgument: "line N: what is wrong", naming a
// construct that is not interpreted.
absl::StatusOr<std::vector<TemplateNode>> ParseTemplate(std::string_view source);

}  // namespace conclave::worker
