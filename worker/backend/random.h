#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

namespace conclave::worker {

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a keyed
// bijection of counters, so that a draw is a function of what it is for and of nothing else.
inline std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> c, std::array<uint32_t, 2> k) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c[0], p1 = uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k[0], static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k[1], static_cast<uint32_t>(p0)};
    k[0] += 0x9E3779B9u;
    k[1] += 0xBB67AE85u;
  }
  return c;
}

// The Gumbel noise of one token: -log(-log1p(-v)), v = max(w, 0.5) / 2^32 in f32; w = first word of
// the draw. Large values come from small v, which f32 holds exactly. Minus infinity when v rounds
// to 1: never the greatest.
inline float GumbelNoise(uint64_t seed, uint32_t agent, uint32_t index, uint32_t token) {
  const uint32_t w = Philox({agent, index, token, 0},
                            {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)})[0];
  const float v = std::max(static_cast<float>(w), 0.5f) * 0x1p-32f;
  return -std::log(-std::log1p(-v));
}

}  // namespace conclave::worker
