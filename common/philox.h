#pragma once

#include <array>
#include <cstdint>

// Functions that kernels call too.
#ifdef __CUDACC__
#define CONCLAVE_HOST_DEVICE __host__ __device__
#else
#define CONCLAVE_HOST_DEVICE
#endif

namespace conclave {

// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): a keyed
// bijection of counters, so that a draw is a function of what it is for and of nothing else.
CONCLAVE_HOST_DEVICE inline void PhiloxRounds(uint32_t (&c)[4], uint32_t k0, uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c[0], p1 = uint64_t{0xCD9E8D57} * c[2];
    const uint32_t c1 = c[1], c3 = c[3];
    c[0] = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c[1] = static_cast<uint32_t>(p1);
    c[2] = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c[3] = static_cast<uint32_t>(p0);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}
inline std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> c, std::array<uint32_t, 2> k) {
  uint32_t words[4] = {c[0], c[1], c[2], c[3]};
  PhiloxRounds(words, k[0], k[1]);
  return {words[0], words[1], words[2], words[3]};
}

}  // namespace conclave
