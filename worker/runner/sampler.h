#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <map>
#include <vector>

#include "common/generation.h"
#include "common/types.h"
#include "worker/backend/device.h"
#include "worker/collective/collective.h"
#include "worker/step.h"

namespace conclave::worker {

// With top-k, top-p or min-p the kept set lies within this many of the greatest logits of all
// ranks.
inline constexpr int kMostCandidates = 1024;

// Whether one rank's device alone decides the token, before the host sees it.
bool DecidedByDevice(const Sampling& sampling);

// One draw: from one row of this rank's shard of the logits.
struct DrawRequest {
  const float* logits = nullptr;  // [shard width]
  const Sampling* sampling = nullptr;
  const DrawRules* rules = nullptr;  // Null: none.
  uint64_t seed = 0;
  AgentId agent{};
  int32_t index = 0;
  const std::map<TokenId, int>* produced = nullptr;  // Occurrences after the prompt.
  const std::map<TokenId, int>* seen = nullptr;      // Occurrences in the prompt and after it.
};

// Draws the tokens of a step, on every rank alike: each looks at its shard of the vocabulary, and
// ranks exchange candidates, never logits. All ranks call it with the same requests. `first`,
// `width`: this rank's ids. In two halves, as Device::BeginDraw() and TakeDraw(): the second looks
// at no logits and no occurrences any more. Without requests it waits for the device alone.
absl::Status BeginTokens(const std::vector<DrawRequest>& requests, TokenId first, int width,
                         Device& device);
absl::StatusOr<std::vector<TokenEvent>> TakeTokens(const std::vector<DrawRequest>& requests,
                                                   Device& device, Collective& collective);
// Both at once.
absl::StatusOr<std::vector<TokenEvent>> DrawTokens(const std::vector<DrawRequest>& requests,
                                                   TokenId first, int width, Device& device,
                                                   Collective& collective);

}  // namespace conclave::worker
