#pragma once

#include <ostream>
#include <string>
#include <vector>

// What a killed worker group left behind: a file of the worker's launcher.flight_directory.
namespace conclave::cli {

// Whether the file begins as a flight does. Any other, or none: false.
bool IsFlight(const std::string& path);

// Writes to `out` which group it was, why it was lost and what ran last. Returns an exit code.
int TellFlight(const std::string& path, std::ostream& out);

// Runs `conclave-worker --replay-flight` in place of this program: the one in this program's own
// folder, else the one on PATH. Its exit codes are this program's: cli/exit_code.h. Returns only
// when it cannot be started.
int RunFlight(const std::string& path, const std::string& config,
              const std::vector<std::string>& overrides);

}  // namespace conclave::cli
