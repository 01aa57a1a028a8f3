#pragma once

#include <ostream>
#include <string>
#include <vector>

namespace conclave::cli {

// What `conclave check` was told.
struct CheckOptions {
  std::vector<std::string> files;
  std::string as;                      // router, worker or profile; empty: told by the keys.
  std::vector<std::string> overrides;  // As --set of the programs.
  bool only_text = false;              // The files that a config names are not looked at.
};

// Checks config files as the programs do when they start: a line for each that is right goes to
// `out`, every complaint about the others to `errors`. Returns an exit code. Relative paths in a
// config are taken from the working directory, as by the programs.
int CheckConfigs(const CheckOptions& options, std::ostream& out, std::ostream& errors);

}  // namespace conclave::cli
