#pragma once

#include <cstdint>
#include <optional>
#include <ostream>
#include <string>

#include "cli/options.h"

namespace conclave::cli {

// What `conclave render` was told.
struct RenderOptions : ServerOptions {
  std::string question;  // "-" = standard input.
  // A model's folder: no router is asked. Else the name of a served model; empty: the only one.
  std::string model;
  std::string profile = "configs/prompts/default.yaml";  // Of a folder that has none.
  std::string mode = "contemplating";                    // As of AskOptions.
  std::optional<int64_t> time_of_day;                    // Seconds since 1970. Not set: now.
  bool tokens = false, ids = false, json = false;        // What is shown in place of the text.
};

// Writes what a model would see of the question to `out`, in colours if `color`, and what it comes
// to to `notes`. Returns an exit code.
int Render(const RenderOptions& options, std::ostream& out, std::ostream& notes, bool color);

}  // namespace conclave::cli
