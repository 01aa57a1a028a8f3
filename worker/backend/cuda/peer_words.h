#pragma once

#include <cstdint>

#include "worker/backend/cuda/platform.h"

// Words by which devices speak to one another while their kernels run. Each of the two is stored
// and loaded as a whole, the two in no order; 16 bytes aligned. The emulator has the same functions
// (tests/fakes/cuda/emulated_platform.h).
namespace conclave::worker::cuda {

struct PeerWords {
  uint64_t first, second;
};

#ifdef CONCLAVE_CUDA_EMULATED

inline void StorePeerWords(uint64_t* to, const PeerWords& words) {
  emulated::StoreShared(to, words.first);
  emulated::StoreShared(to + 1, words.second);
}
inline PeerWords LoadPeerWords(const uint64_t* from) {
  return {emulated::LoadShared(from), emulated::LoadShared(from + 1)};
}

inline int64_t PeerClock() { return emulated::Nanoseconds(); }

#elif defined(__CUDACC__)

// As two atomic_ref<uint64_t, thread_scope_system>.store(word, memory_order_relaxed).
__device__ inline void StorePeerWords(uint64_t* to, const PeerWords& words) {
  asm volatile("st.relaxed.sys.global.v2.u64 [%0], {%1, %2};" ::"l"(to), "l"(words.first),
               "l"(words.second)
               : "memory");
}
// As two of its load(memory_order_relaxed).
__device__ inline PeerWords LoadPeerWords(const uint64_t* from) {
  PeerWords words;
  asm volatile("ld.relaxed.sys.global.v2.u64 {%0, %1}, [%2];"
               : "=l"(words.first), "=l"(words.second)
               : "l"(from)
               : "memory");
  return words;
}
// Nanoseconds, for waits.
__device__ inline int64_t PeerClock() {
  int64_t now;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
  return now;
}

#endif

}  // namespace conclave::worker::cuda
