#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "common/philox.h"

namespace conclave::worker {

// The Gumbel noise of one token: -log(-log1p(-v)), v = max(w, 0.5) / 2^32 in f32; w = first word of
// the draw. Large values come from small v, which f32 holds exactly. Minus infinity when v rounds
// to 1: never the greatest.
CONCLAVE_HOST_DEVICE inline float NoiseUniform(uint64_t seed, uint32_t agent, uint32_t index,
                                               uint32_t token) {
  uint32_t words[4] = {agent, index, token, 0};
  PhiloxRounds(words, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
  const float w = static_cast<float>(words[0]);
  return (w > 0.5f ? w : 0.5f) * 0x1p-32f;
}
CONCLAVE_HOST_DEVICE inline float NoiseOf(float v) { return -logf(-log1pf(-v)); }
// Not below NoiseOf(v), where v is small at most 0.07 above it, and much cheaper: -log1p(-v) >= v,
// and e + f <= log2(2^e (1 + f)), which are a float's exponent and fraction. v in (0, 1]. For CPUs.
inline float NoiseBound(float v) {
  constexpr float kLn2 = 0.693147181f, kSlack = 1e-4f;  // More than what rounds, here and there.
  const auto log2 = static_cast<float>(std::bit_cast<int32_t>(v)) * 0x1p-23f - 127;
  return kSlack - log2 * kLn2;
}
CONCLAVE_HOST_DEVICE inline float GumbelNoise(uint64_t seed, uint32_t agent, uint32_t index,
                                              uint32_t token) {
  return NoiseOf(NoiseUniform(seed, agent, index, token));
}

}  // namespace conclave::worker
