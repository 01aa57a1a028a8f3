#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <memory>
#include <string>

#include "worker/backend/cuda/platform.h"
#include "worker/collective/collective.h"

namespace conclave::worker {

struct NcclOptions {
  int rank = 0, size = 1;
  std::string id = {};            // Of NcclId(): the same on all ranks.
  int device = 0;                 // This rank's.
  cudaStream_t stream = nullptr;  // Where the device's operations run: sums are put there too.
  bool device_is_shared = false;  // Several ranks have the same device: for tests, and slow.
  std::string address = {};       // Of this host, for others; empty: all ranks are on this host.
  bool peers = true;              // Small sums between peers, where they reach one another.
  // Of a sum between peers that is tried: one comes within moments, unless it shares this device.
  absl::Duration trial_patience = absl::Seconds(10);
  absl::Duration patience = absl::Minutes(10);  // For all ranks to come.
};

// kUnimplemented when the program was built without NCCL, kFailedPrecondition when the library
// can't be opened.
absl::Status CheckNccl();

// A new group's name, made by rank 0 and told to the others. Looks at the options' rank, address
// and device_is_shared. Fails as CheckNccl() does; kInvalidArgument: no interface has the address.
absl::StatusOr<std::string> NcclId(const NcclOptions& options);

// The ranks of a group, each a process with a device. AllReduceSum takes dense tensors of f32 in
// the device's memory, only enqueues work on the stream, and may be captured in a graph once it has
// run with the same size; parts are gathered and added in rank order. AllGather takes host memory
// and goes through `host`, which must outlive this. An error that NCCL met meanwhile is the status
// of the next call. Collectives that are stuck are ended by the end of the process alone: captured
// graphs may hold the communicator, so it is never aborted or destroyed.
//
// Waits for all ranks: kDeadlineExceeded when they don't come.
absl::StatusOr<std::unique_ptr<Collective>> JoinNccl(const NcclOptions& options, Collective& host);

}  // namespace conclave::worker
