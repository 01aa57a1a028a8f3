#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/answer/answer_key.h"
#include "common/generation.h"

namespace conclave {

// What is particular about a model, for whoever builds prompts for it (exact wording: prompts are
// data).
struct PromptProfile {
  AnswerKeySpec answer_key;
  std::string
      aggregate_text;  // The aggregation pass's user turn, with {question} and {candidates}.
  std::string candidate_line;  // One line of {candidates}, with {index} (from 1) and {answer}.
  int max_candidates = 8;
  std::string split_text;   // The splitter's user turn, with {question}. Empty: it can't split.
  std::string join_text;    // The joining pass's user turn, with {question} and {candidates}.
  std::string join_line;    // One line of its {candidates}, with {index}, {part} and {answer}.
  std::string refine_text;  // A refining agent's user turn. Empty: aggregate_text.
  std::string select_text;  // User turn that asks for a candidate's number. Empty: it can't select.
  int end_thinking_tokens = 0;  // What forcing the end of thinking costs.
  bool thinks = false;
  int thinking_tokens = 0;  // Default budgets.
  int answer_tokens = 0;
  Sampling sampling;                     // The model's own defaults.
  std::vector<TokenId> end_tokens = {};  // With which the model ends, rising.
};

// What a group serves and what its limits are. Equal fingerprints give the same bytes.
struct ModelDescription {
  std::string name;
  std::string fingerprint;  // Hex.
  std::string numerics;
  int tensor_parallel = 1;
  int max_positions = 0;
  int max_agents = 0;
  int64_t kv_tokens = 0;
  int64_t parameters = 0;
  int decision_version = 0;
  std::string family;  // Of the decoder: "llama". Empty: not told.
  int vocabulary = 0;  // Ids are below it. 0: of an earlier version, which does not say.
  PromptProfile profile;
};

}  // namespace conclave
