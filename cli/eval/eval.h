#pragma once

#include <absl/status/statusor.h>

#include <ostream>

#include "cli/eval/eval_options.h"
#include "cli/eval/suite.h"

namespace conclave::cli {

// The problems that the options name. kInvalidArgument and kNotFound say what is wrong with them.
absl::StatusOr<Suite> LoadSuite(const EvalOptions& options);

// Asks the suite's questions in every arm and reports: the table goes to `out`, progress to
// `notes`. Ctrl-C ends it with what there is. Returns the program's exit code. At most one at a
// time in a program, and before anything starts threads.
int Evaluate(const EvalOptions& options, std::ostream& out, std::ostream& notes);

}  // namespace conclave::cli
