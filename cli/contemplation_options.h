#pragma once

#include <absl/status/status.h>

#include "cli/options.h"
#include "conclave/v1/conclave.pb.h"

namespace conclave::cli {

// What the options say of several agents. kInvalidArgument names the option, its value and what is
// allowed; a schema that cannot be read is kNotFound.
absl::Status SetContemplation(const AskOptions& options, v1::Contemplation& how);

// kInvalidArgument when one of them was given: options that mean nothing to a single agent are not
// dropped in silence.
absl::Status RefuseContemplation(const AskOptions& options);

}  // namespace conclave::cli
