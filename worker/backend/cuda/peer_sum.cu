#include <algorithm>

#include "common/check.h"
#include "worker/backend/cuda/peer_sum.h"
#include "worker/backend/cuda/peer_words.h"

// Two neighbouring numbers a thread, 16 bytes on the link. Few numbers: bound by the link's
// latency, once; many: by its bandwidth, twice the numbers' bytes to each peer. (The one-word
// protocol is NCCL's LL; a call's words need no fence, for PTX gives a 64-bit store as a whole or
// not at all.)
namespace conclave::worker::cuda {
namespace {

constexpr int kThreads = 256;
// Every 2^24th call and the one after it send and await all words: so no word keeps the number of a
// call for longer, and none can be taken for one when the count comes round after 2^32.
constexpr uint32_t kSweep = (uint32_t{1} << 24) - 1;

__device__ uint64_t WordOf(float value, uint32_t call) {
  return static_cast<uint64_t>(__float_as_uint(value)) << 32 | call;
}
__device__ float ValueOf(uint64_t word) {
  return __uint_as_float(static_cast<uint32_t>(word >> 32));
}
__device__ bool IsOf(const PeerWords& words, uint32_t call) {
  return static_cast<uint32_t>(words.first) == call && static_cast<uint32_t>(words.second) == call;
}

// Until both words are of the call, or time is up.
__device__ void Await(const uint64_t* from, uint32_t call, const PeerSumArgs& args, int64_t begin,
                      PeerWords& words) {
  while (!IsOf(words, call)) {
    if (args.patience_ns > 0 && PeerClock() - begin > args.patience_ns) {
      atomicExch(args.late, 1u);
      return;
    }
    words = LoadPeerWords(from);
  }
}

template <int kSize>
__global__ void __launch_bounds__(kThreads, 1)
    PeerSumKernel(PeerSumArgs args, const uint64_t* inbox, float* x, int count) {
  GridDependencyWait();
  if (args.alone) GridDependencyLaunch();
  const int64_t begin = args.patience_ns > 0 ? PeerClock() : 0;
  const uint32_t call = args.calls[blockIdx.x] + 1;
  const int most = static_cast<int>(kMostPeerFloats);
  const int end = (call & kSweep) <= 1 ? most : count;
  const int64_t half = static_cast<int64_t>(call & 1) * kSize * most;
  const int first = static_cast<int>(blockIdx.x * kThreads + threadIdx.x) * 2;
  const int stride = static_cast<int>(gridDim.x) * kThreads * 2;
  const auto own = [&](int i) { return i < count ? x[i] : 0.0f; };

  for (int i = first; i < end; i += stride) {
    const PeerWords words = {WordOf(own(i), call), WordOf(own(i + 1), call)};
#pragma unroll
    for (int peer = 0; peer < kSize; ++peer) {
      if (peer == args.rank) continue;
      StorePeerWords(args.inboxes[peer] + half + int64_t{args.rank} * most + i, words);
    }
  }
  __syncthreads();  // Nobody waits before all of the block has sent.
  inbox += half;
  for (int i = first; i < end; i += stride) {
    PeerWords words[kSize];
#pragma unroll
    for (int peer = 0; peer < kSize; ++peer) {  // All on the way, before the first is awaited.
      if (peer == args.rank) continue;
      words[peer] = LoadPeerWords(inbox + int64_t{peer} * most + i);
    }
    const float mine[2] = {own(i), own(i + 1)};
    float sum[2] = {};
#pragma unroll
    for (int rank = 0; rank < kSize; ++rank) {
      float part[2] = {mine[0], mine[1]};
      if (rank != args.rank) {
        Await(inbox + int64_t{rank} * most + i, call, args, begin, words[rank]);
        part[0] = ValueOf(words[rank].first), part[1] = ValueOf(words[rank].second);
      }
      sum[0] = rank == 0 ? part[0] : sum[0] + part[0];
      sum[1] = rank == 0 ? part[1] : sum[1] + part[1];
    }
    if (i < count) x[i] = sum[0];
    if (i + 1 < count) x[i + 1] = sum[1];
  }
  __syncthreads();
  if (threadIdx.x == 0) args.calls[blockIdx.x] = call;
}

// The kernel of the group's size, which is at most kSize.
template <int kSize>
void StartFor(const LaunchShape& shape, const PeerSumArgs& args, float* x, int count) {
  if constexpr (kSize > 1) {
    if (args.size < kSize) return StartFor<kSize - 1>(shape, args, x, count);
    Launch(PeerSumKernel<kSize>, shape, args, args.inboxes[args.rank], x, count);
  }
}

}  // namespace

void PeerSum(const PeerSumArgs& args, float* x, int64_t count, int multiprocessors,
             cudaStream_t stream) {
  CHECK(args.size > 1 && args.size <= kMostPeers && count > 0 && count <= kMostPeerFloats);
  const LaunchShape shape{
      .grid = dim3(static_cast<unsigned>(std::min(kPeerBlocks, multiprocessors))),
      .block = dim3(kThreads),
      .stream = stream,
      .early = true,
      .together = true};
  StartFor<kMostPeers>(shape, args, x, static_cast<int>(count));
}

}  // namespace conclave::worker::cuda
