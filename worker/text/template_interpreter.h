#pragma once

#include <absl/status/statusor.h>

#include <map>
#include <string>
#include <vector>

#include "worker/text/chat_template.h"
#include "worker/text/template_ast.h"
#include "worker/text/template_value.h"

namespace conclave::worker {

// Runs a parsed template once, over `globals`, within the limits. Errors as ChatTemplate::Render's,
// without the template's name.
absl::StatusOr<MarkedString> InterpretTemplate(const std::vector<TemplateNode>& nodes,
                                               std::map<std::string, TemplateValue> globals,
                                               int64_t time_of_day, const TemplateLimits& limits);

// A filter or a method of strings, lists and dictionaries: args[0] is what it is applied to.
// kUnimplemented: unknown.
absl::StatusOr<TemplateValue> CallTemplateFilter(const std::string& name,
                                                 const std::vector<TemplateValue>& args);
absl::StatusOr<TemplateValue> CallTemplateMethod(const std::string& name,
                                                 const std::vector<TemplateValue>& args);
absl::StatusOr<bool> TestTemplateValue(const std::string& name,
                                       const std::vector<TemplateValue>& args);

}  // namespace conclave::worker
