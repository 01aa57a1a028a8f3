#pragma once

#include <ostream>
#include <string>

#include "cli/options.h"

namespace conclave::cli {

// What `conclave tokenize` was told.
struct TokenizeOptions {
  std::string model;       // A model's folder: its tokenizer.json is read.
  std::string text = "-";  // "-" = standard input.
  bool special = false;    // What looks like an added token in the text is one.
  bool ids = false, json = false;
};

// Writes the text's tokens to `out`, in colours if `color`, and how many there are to `notes`.
// Needs no router and no weights. Returns an exit code.
int Tokenize(const TokenizeOptions& options, std::ostream& out, std::ostream& notes, bool color);

}  // namespace conclave::cli
