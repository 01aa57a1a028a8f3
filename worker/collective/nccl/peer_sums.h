#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "worker/backend/cuda/peer_sum.h"
#include "worker/collective/collective.h"
#include "worker/collective/nccl/nccl_collective.h"

namespace conclave::worker {

// Sums of a decode step's size, of ranks on one host whose devices reach one another's memory: one
// kernel in place of NCCL's and an addition. The bits are those of any other collective.
class PeerSums {
 public:
  // Sums on all ranks, or on none and the same reason on all.
  struct Joined {
    std::unique_ptr<PeerSums> sums;
    std::string why_not;
  };

  // Every rank calls this at the same time; `host` joins them. Sums are tried, and compared with
  // what they must be, before anything trusts them. A reason names the rank that could not: more
  // ranks than kMostPeers or several hosts, NCCL_P2P_DISABLE is 1, no way to a peer's memory, or a
  // sum that was wrong or late. What was allocated stays until the process ends: recorded graphs
  // and peers use it. Errors are those of `host`: the group is lost.
  static absl::StatusOr<Joined> Join(const NcclOptions& options, Collective& host);

  bool Takes(int64_t count) const { return count <= cuda::kMostPeerFloats; }
  // x = the ranks' sum, `count` floats of the device's memory. Only enqueues, and may be captured.
  void Sum(float* x, int64_t count) { cuda::PeerSum(args_, x, count, multiprocessors_, stream_); }

 private:
  explicit PeerSums(const NcclOptions& options);
  absl::Status Allocate(cudaIpcMemHandle_t* handle);
  absl::Status Open(const std::vector<cudaIpcMemHandle_t>& handles);
  absl::Status Prove(int64_t count, uint32_t round);

  const cudaStream_t stream_;
  const int device_;
  int multiprocessors_ = 0;
  cuda::PeerSumArgs args_;
};

}  // namespace conclave::worker
