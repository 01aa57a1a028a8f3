#pragma once

#include <absl/status/statusor.h>

#include <string>

#include "worker/text/template_machine.h"

namespace conclave::worker {

// What a filter is: applied to `value`.
using TemplateFilter = absl::StatusOr<TemplateValue> (*)(TemplateMachine& machine,
                                                         const std::string& name,
                                                         const TemplateValue& value,
                                                         const TemplateArguments& args);

// The filters that go through lists and dictionaries; null: none has this name.
TemplateFilter FindSequenceFilter(const std::string& name);

}  // namespace conclave::worker
