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

}  // namespace conclave::worker
