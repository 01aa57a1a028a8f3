#pragma once

#include <cstdint>
#include <vector>

#include "common/types.h"

namespace conclave::worker {

// What penalties and bias make of one token's logit x: x / repetition (x * repetition when it is
// not positive), - subtract, + add.
struct Adjustment {
  TokenId id = 0;
  float repetition = 1, subtract = 0, add = 0;

  float Of(float logit) const {
    return (logit > 0 ? logit / repetition : logit * repetition) - subtract + add;
  }
};

// One draw from one rank's shard of a row's logits.
struct ShardDraw {
  const float* logits = nullptr;  // [width], raw, in the device's memory.
  float temperature = 1;
  uint64_t seed = 0;
  uint32_t agent = 0, index = 0;
  std::vector<Adjustment> adjust;  // Ascending by id; the result is what is drawn from.
  int keep = 0;                    // > 0: give the `keep` greatest, for top-k, top-p and min-p.
};

struct Candidate {
  float value = 0;  // Adjusted logit over temperature; of `best`, with its Gumbel noise. Greedy:
                    // the adjusted logit.
  float raw = 0;    // The logit as the model gave it.
  TokenId id = 0;
};

inline constexpr int kConfidenceTokens = 20;  // Over which top_logprob_mean is taken.

struct ShardResult {
  float max = 0, sum = 0;  // Of the raw logits: greatest, and sum of exp(x - max).
  // The kConfidenceTokens greatest raw logits, falling, ties to the lower id; and whose they are.
  std::vector<float> top_raw;
  std::vector<TokenId> top_ids;
  Candidate best;               // What this shard would draw; ties to the lower id.
  std::vector<Candidate> kept;  // By falling value, ties to the lower id.
};

}  // namespace conclave::worker
