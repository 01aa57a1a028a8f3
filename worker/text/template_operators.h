#pragma once

#include <absl/status/statusor.h>

#include <string>

#include "worker/text/template_machine.h"
#include "worker/text/template_value.h"

// Python's operators on values.
namespace conclave::worker {

// + - * / // % **
absl::StatusOr<TemplateValue> TemplateArithmetic(TemplateMachine& machine, const std::string& op,
                                                 const TemplateValue& a, const TemplateValue& b);

// -1, 0 or 1. kInvalidArgument: the two have no order.
absl::StatusOr<int> TemplateOrder(const TemplateValue& a, const TemplateValue& b);

// == != < > <= >= in, and "not in".
absl::StatusOr<bool> TemplateCompares(TemplateMachine& machine, const std::string& op,
                                      const TemplateValue& a, const TemplateValue& b);

// Python's "..." % args. Marks stay.
absl::StatusOr<MarkedString> TemplatePercent(TemplateMachine& machine, const MarkedString& format,
                                             const TemplateArguments& args);

}  // namespace conclave::worker
