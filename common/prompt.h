#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "common/types.h"

namespace conclave {

// Neighbouring bytes of a prompt that one author wrote.
struct PromptRun {
  size_t end = 0;          // One past its last byte; it begins where the run before it ends.
  bool by_caller = false;  // Else the chat template's.

  bool operator==(const PromptRun&) const = default;
};

// One token of a prompt.
struct PromptToken {
  TokenId id = 0;
  std::string text;      // What it says; any bytes.
  bool control = false;  // No caller's text becomes it: "<|im_end|>".

  bool operator==(const PromptToken&) const = default;
};

// What a model sees of messages, for people.
struct Prompt {
  std::string text;
  std::vector<PromptRun> runs;
  std::vector<PromptToken> tokens;

  bool operator==(const Prompt&) const = default;
};

}  // namespace conclave
