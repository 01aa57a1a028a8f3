#pragma once

#include <cstdint>

#include "worker/backend/cuda/platform.h"

namespace conclave::worker::cuda {

// Sums over ranks whose devices reach one another's memory: every rank stores its part in all
// others' inboxes, and adds what has come to its own. One kernel, one way over the link.

inline constexpr int kMostPeers = 8;
inline constexpr int64_t kMostPeerFloats = int64_t{128} << 10;  // Of one sum.
inline constexpr int kPeerBlocks = 64;                          // At most; all run at once.

// An inbox holds two calls, so that a rank that is done may send while others still read:
// [call % 2][rank][kMostPeerFloats] words. A word is a number and the call that it belongs to (the
// lower half), stored and seen as a whole, so nothing else says that it has come. Zero at first.
constexpr int64_t PeerInboxWords(int size) { return 2 * size * kMostPeerFloats; }

struct PeerSumArgs {
  int rank = 0, size = 1;
  uint64_t* inboxes[kMostPeers] = {};  // [rank], each on its rank's device, aligned to 16 bytes.
  uint32_t* calls = nullptr;  // [kPeerBlocks]: the calls so far, as many on all ranks. Own memory.
  // How long a thread waits for its words in a call before it sets *late and goes on with what is
  // there; 0: for ever.
  int64_t patience_ns = 0;
  uint32_t* late = nullptr;
  // Ranks have a device each. Otherwise no later kernel may take room that a peer's needs.
  bool alone = true;
};

// x = the sum of all ranks' x, in rank order for every element. Every rank makes the same calls, of
// 1 to kMostPeerFloats floats. `multiprocessors`: of this device.
void PeerSum(const PeerSumArgs& args, float* x, int64_t count, int multiprocessors,
             cudaStream_t stream);

}  // namespace conclave::worker::cuda
