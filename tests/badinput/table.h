#pragma once

#include <absl/status/status.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace conclave {

// One kind of bad input and what was said to it.
struct BadInput {
  std::string kind;     // A few words.
  std::string status;   // "INVALID_ARGUMENT".
  std::string message;  // As its receiver sees it.
};

BadInput Refused(std::string kind, const absl::Status& status);

// Compares the rows with the table under the heading `section` of tests/badinput/README.md or
// NETWORK.md, and shows the rows that differ. With CONCLAVE_WRITE_TABLES in the environment, writes
// the table there instead. `names`: what to show in place of names that differ from run to run,
// such as a folder's.
void ExpectTable(const std::string& section, std::vector<BadInput> rows,
                 const std::vector<std::pair<std::string, std::string>>& names = {});

}  // namespace conclave
