#include "common/answer/pattern.h"

#include <utility>

#include "common/status.h"

namespace conclave {

absl::StatusOr<std::unique_ptr<const RE2>> CompilePattern(const std::string& pattern,
                                                          int most_steps) {
  RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(1 << 20);
  auto compiled = std::make_unique<const RE2>(pattern, options);
  if (!compiled->ok()) return InvalidArgument("is not valid: {}", compiled->error());
  if (compiled->ProgramSize() > most_steps) {
    return InvalidArgument("makes {} steps of each byte; the limit is {}", compiled->ProgramSize(),
                           most_steps);
  }
  return compiled;
}

}  // namespace conclave
