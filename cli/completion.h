#pragma once

#include <absl/status/statusor.h>

#include <CLI/CLI.hpp>
#include <string>

namespace conclave::cli {

// A script that completes `app`'s subcommands, options and the words that an option takes ("a|b" as
// its type's name) in a shell, bash or zsh. FILE and FOLDER as a type's name stand for files and
// folders. kInvalidArgument for another shell.
absl::StatusOr<std::string> CompletionScript(const CLI::App& app, const std::string& shell);

}  // namespace conclave::cli
