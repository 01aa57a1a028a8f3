#pragma once

#include <cstddef>
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

inline constexpr int kMostTopLogprobs = 20;    // Told beside one token.
inline constexpr size_t kMostTokenText = 256;  // Bytes of one that is told.

// A token at one place, and how likely it was there.
struct RatedToken {
  TokenId id = 0;
  float logprob = 0;
  std::string text = {};  // The bytes that it says, where they are known.

  bool operator==(const RatedToken&) const = default;
};

// One token after an agent's prompt. Log-probabilities are of the raw distribution (before
// penalties and temperature).
struct TokenEvent {
  TokenId id = 0;
  float logprob = 0;           // Of this token. 0 for forced tokens.
  float top_logprob_mean = 0;  // Mean over the 20 likeliest tokens: DeepConf's confidence is its
                               // negative. 0 for forced tokens.
  TokenKind kind = TokenKind::kSampled;
  // When it is asked for: the token itself, then the likeliest at its place, falling.
  std::vector<RatedToken> told = {};

  bool operator==(const TokenEvent&) const = default;
};

// Why an agent ended, as its worker saw it.
enum class Finish : uint8_t {
  kStop,       // A stop token or stop string.
  kLength,     // Its grant (or the answer budget, or the model's positions) was used up.
  kBar,        // Its confidence fell below the bar that it was given.
  kCancelled,  // Its family or the router cancelled it.
};

// Bytes that what is told of a token takes on the wire, at most.
inline size_t ToldBytes(const TokenEvent& token) {
  constexpr size_t kBeside = 24;
  size_t bytes = 0;
  for (const RatedToken& each : token.told) bytes += kBeside + each.text.size();
  return bytes;
}

// What made an agent stop by itself.
struct StopCause {
  enum class Kind : uint8_t {
    kNone,       // Nothing did.
    kEndToken,   // The model's own end.
    kStopToken,  // A token that the request names.
    kStopText,   // A text that the request names.
  };
  Kind kind = Kind::kNone;
  TokenId token = 0;      // kEndToken, kStopToken.
  std::string text = {};  // kStopText.

  bool operator==(const StopCause&) const = default;
};

// Limits of one agent, in tokens after its prompt. Exact: the engine never goes past them.
struct Budget {
  int thinking_tokens = 0;  // At this many the end of thinking is forced. 0 = no limit of its own.
  int answer_tokens = 0;    // After the end of thinking. 0 = no limit of its own.
  int min_tokens = 0;       // While there are fewer, no stop is drawn or looked for.

  bool operator==(const Budget&) const = default;
};

}  // namespace conclave
