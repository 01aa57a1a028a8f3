#pragma once

#include <absl/status/status.h>

#include <memory>
#include <vector>

#include "worker/engine/kv_cache.h"
#include "worker/engine/sequence.h"
#include "worker/step.h"

namespace conclave::worker {

// What an Add is answered.
struct Admission {
  absl::Status status;
  int width = 0;  // kOutOfRange: so many agents of the gang, the first ones, would fit.
};

using Gang = std::vector<std::unique_ptr<Sequence>>;

// What can be seen from an agent's spec alone: kInvalidArgument, and kOutOfRange (width 0) for more
// positions than the model has.
absl::Status CheckSpec(const AgentSpec& spec, const GroupShape& shape);

// kOutOfRange when the gang with all of its grants exceeds `blocks` empty blocks or max_slots.
// Agents that produced tokens elsewhere enter one by one, so each of them counts alone.
Admission CheckFit(const Gang& gang, int blocks, int max_slots);

// How many available blocks it takes until each of the sequences has computed its known tokens and
// has room for the next one. What they share, and what others hold, counts once.
int BlocksToStart(const std::vector<Sequence*>& sequences, const KvCache& cache);

}  // namespace conclave::worker
