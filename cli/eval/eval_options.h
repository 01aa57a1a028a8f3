#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/options.h"

namespace conclave::cli {

// What `conclave eval` was told.
struct EvalOptions : ServerOptions {
  std::string suite;         // A file, or a procedural suite's name.
  std::string protocol;      // Of a file: gsm8k, math500, gpqa. Empty: our own form.
  std::string prompts_file;  // Other words for protocols.
  std::string model;
  std::vector<std::string> arms;
  std::string arms_file;
  uint64_t seed = 1;
  int count = 100, offset = 0, repeats = 4;
  int concurrency = 8, retries = 5;
  std::string order = "arms";           // arms, questions
  std::string results_file, page_file;  // Empty: none.
  std::string write_file;               // The suite is written there, nobody is asked.
  bool quiet = false;                   // No progress.
};

}  // namespace conclave::cli
