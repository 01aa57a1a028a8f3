#pragma once

#include <cstdint>
#include <string>

#include "cli/eval/draw.h"

// Everyday arithmetic in words. Which numbers occur, and how often, is what the model that ships
// was trained on; so is every word.
namespace conclave::cli {

// A question and its answer.
struct Told {
  std::string question;
  int64_t answer = 0;
};

// A short story of one or two operations, of twelve kinds.
Told TellWord(Draw& draw);
// "What is 12 * 34 + 5?", of five kinds.
Told TellExpression(Draw& draw);
// A story, or a bare list, of that many operations in a row. Values stay within 1 to 999.
Told TellStory(int operations, Draw& draw);
Told TellChain(int operations, Draw& draw);

}  // namespace conclave::cli
