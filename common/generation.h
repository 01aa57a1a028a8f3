#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "common/types.h"

namespace conclave {

// How the next token is drawn. Applied in the order of the fields' comments: penalties, bias,
// temperature, top-k, top-p, min-p. The seed is the family's; the agent's id draws agents apart.
struct Sampling {
  float repetition_penalty = 1;  // > 0; 1 = off.
  float presence_penalty = 0;    // -2..2
  float frequency_penalty = 0;   // -2..2
  std::vector<std::pair<TokenId, float>> logit_bias;
  float temperature = 1;  // 0 = greedy.
  int top_k = 0;          // 0 keeps the whole vocabulary; at most 1,024.
  float top_p = 1;        // (0, 1]
  float min_p = 0;        // [0, 1)

  bool operator==(const Sampling&) const = default;
};

// Whether a token was drawn or put there: it counts either way.
enum class TokenKind : uint8_t { kSampled, kForced };

// One token after an agent's prompt. Log-probabilities are of the raw distribution (before
// penalties and temperature).
struct TokenEvent {
  TokenId id = 0;
  float logprob = 0;           // Of this token. 0 for forced tokens.
  float top_logprob_mean = 0;  // Mean over the 20 likeliest tokens: DeepConf's confidence is its
                               // negative. 0 for forced tokens.
  TokenKind kind = TokenKind::kSampled;

  bool operator==(const TokenEvent&) const = default;
};

// Why an agent ended, as its worker saw it.
enum class Finish : uint8_t {
  kStop,       // A stop token or stop string.
  kLength,     // Its grant (or the answer budget, or the model's positions) was used up.
  kBar,        // Its confidence fell below the bar that it was given.
  kCancelled,  // Its family or the router cancelled it.
};

// Limits of one agent, in tokens after its prompt. Exact: the engine never goes past them.
struct Budget {
  int thinking_tokens = 0;  // At this many the end of thinking is forced. 0 = no limit of its own.
  int answer_tokens = 0;    // After the end of thinking. 0 = no limit of its own.

  bool operator==(const Budget&) const = default;
};

}  // namespace conclave
