#pragma once

#include <ostream>
#include <string>

#include "cli/options.h"
#include "conclave/v1/conclave.pb.h"

namespace conclave::cli {

// What `conclave models` was told.
struct ModelsOptions : ServerOptions {
  bool json = false;
};

// Writes the models that the first of the routers serves to `out` and returns an exit code.
int ListModels(const ModelsOptions& options, std::ostream& out, bool color);

// The list as a table for people: lines that end with '\n', at most 79 columns wide where names
// are of usual length, harmless to a terminal.
std::string ModelsText(const v1::ListModelsResponse& response, bool color);

}  // namespace conclave::cli
