#pragma once

#include <cstdint>

#include "worker/step.h"

namespace conclave::worker {

// What ranks compare before a token leaves: a 64-bit hash of the step's number, the slots sampled
// for and the tokens drawn (each mixed in with the finaliser of splitmix64). A step without samples
// has one too. Log-probabilities are left out: only the leader needs them.
inline uint64_t AgreementHash(const StepPlan& plan, const StepResult& result) {
  uint64_t hash = 0x636f6e636c617665;
  auto mix = [&hash](uint64_t value) {
    hash += 0x9e3779b97f4a7c15 + value;
    hash = (hash ^ hash >> 30) * 0xbf58476d1ce4e5b9;
    hash = (hash ^ hash >> 27) * 0x94d049bb133111eb;
    hash ^= hash >> 31;
  };
  mix(result.number);
  mix(plan.samples.size());
  for (const SampleRequest& sample : plan.samples) mix(static_cast<uint32_t>(sample.slot));
  mix(result.tokens.size());
  for (const TokenEvent& token : result.tokens) mix(static_cast<uint32_t>(token.id));
  return hash;
}

}  // namespace conclave::worker
