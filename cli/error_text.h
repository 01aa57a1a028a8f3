#pragma once

#include <absl/status/status.h>

#include <string>

namespace conclave::cli {

// What went wrong between us and the router at `address`, and what to do about it: lines that end
// with '\n', harmless to a terminal.
std::string ErrorText(const std::string& address, const absl::Status& status);

}  // namespace conclave::cli
