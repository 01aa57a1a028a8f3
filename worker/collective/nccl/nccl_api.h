#pragma once

#include <absl/status/statusor.h>
#include <nccl.h>

namespace conclave::worker {

// What is used of NCCL. The library is opened when a group of several ranks is formed: it has more
// than 200 MB, and a single rank needs none of it. Tests put a fake in its place.
struct NcclApi {
  decltype(&::ncclGetUniqueId) get_unique_id = nullptr;
  decltype(&::ncclCommInitRankConfig) comm_init_rank_config = nullptr;
  decltype(&::ncclCommGetAsyncError) comm_get_async_error = nullptr;
  decltype(&::ncclAllGather) all_gather = nullptr;
  decltype(&::ncclSend) send = nullptr;
  decltype(&::ncclRecv) recv = nullptr;
  decltype(&::ncclGroupStart) group_start = nullptr;
  decltype(&::ncclGroupEnd) group_end = nullptr;
  decltype(&::ncclGetErrorString) get_error_string = nullptr;
  decltype(&::ncclGetLastError) get_last_error = nullptr;
};

// Opens libnccl.so.2, once for the whole process; it stays open. kFailedPrecondition with the
// remedy when there is none, or when it is too old. Any thread.
absl::StatusOr<const NcclApi*> LoadNccl();

}  // namespace conclave::worker
