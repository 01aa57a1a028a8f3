// NCCL for emulated devices: the ranks are processes of this machine and meet in shared memory.
// What is put on a stream happens when the stream runs, as on a device. A group of sends and
// receives is one exchange of equal parts between all ranks.

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "common/check.h"
#include "common/status.h"
#include "worker/backend/cuda/platform.h"
#include "worker/collective/nccl/nccl_api.h"
#include "worker/collective/shared_collective.h"

struct ncclComm {
  std::unique_ptr<conclave::worker::SharedCollective> ranks;
};

namespace conclave::worker {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(30);
constexpr int kMostRanks = 8;

struct Message {
  const float* from = nullptr;
  float* to = nullptr;
};

// The open group of this process.
struct Group {
  bool open = false;
  size_t count = 0;
  ncclComm_t comm = nullptr;
  cudaStream_t stream = nullptr;
  std::vector<Message> peers;
};
Group& TheGroup() {
  static Group group;
  return group;
}

// A lost peer leaves a real collective waiting on the device; so does it here.
void Gather(SharedCollective& ranks, const float* part, size_t count, float* out) {
  if (!ranks.AllGather(part, static_cast<int64_t>(count), out).ok()) pause();
}

ncclResult_t GetUniqueId(ncclUniqueId* id) {
  const int fd = memfd_create("fake-nccl", 0);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(SharedCollectiveBytes(kMostRanks))) != 0) {
    return ncclSystemError;
  }
  *id = {};
  const std::string path = fmt::format("/proc/{}/fd/{}", getpid(), fd);
  std::copy(path.begin(), path.end(), id->internal);
  return ncclSuccess;
}

ncclResult_t CommInitRankConfig(ncclComm_t* comm, int size, ncclUniqueId id, int rank,
                                ncclConfig_t* config) {
  if (size > kMostRanks || config->blocking != 1) return ncclInvalidArgument;
  const int fd = open(id.internal, O_RDWR);
  if (fd < 0) return ncclSystemError;
  void* memory =
      mmap(nullptr, SharedCollectiveBytes(kMostRanks), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (memory == MAP_FAILED) return ncclSystemError;
  *comm = new ncclComm{std::make_unique<SharedCollective>(memory, rank, size, kPatience)};
  std::vector<float> here(static_cast<size_t>(size));
  return (*comm)->ranks->AllGather(here.data(), 1, here.data()).ok() ? ncclSuccess
                                                                     : ncclRemoteError;
}

ncclResult_t CommGetAsyncError(ncclComm_t, ncclResult_t* error) {
  *error = ncclSuccess;
  return ncclSuccess;
}

ncclResult_t AllGather(const void* part, void* out, size_t count, ncclDataType_t type,
                       ncclComm_t comm, cudaStream_t stream) {
  if (type != ncclFloat || TheGroup().open) return ncclInvalidUsage;
  cuda::emulated::SubmitHost(
      [part, out, count, comm] {
        // The part may lie within the result.
        const auto* from = static_cast<const float*>(part);
        const std::vector<float> held(from, from + count);
        Gather(*comm->ranks, held.data(), count, static_cast<float*>(out));
      },
      stream);
  return ncclSuccess;
}

ncclResult_t GroupStart() {
  if (TheGroup().open) return ncclInvalidUsage;
  TheGroup() = {};
  TheGroup().open = true;
  return ncclSuccess;
}

// Adds to the group; a call out of place or unlike the others is refused.
Message* Add(size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream) {
  Group& group = TheGroup();
  if (!group.open || type != ncclFloat || peer < 0 || peer >= comm->ranks->size()) return nullptr;
  if (group.comm == nullptr) {
    group.comm = comm, group.stream = stream, group.count = count;
    group.peers.resize(static_cast<size_t>(comm->ranks->size()));
  }
  if (group.comm != comm || group.stream != stream || group.count != count) return nullptr;
  return &group.peers[static_cast<size_t>(peer)];
}

ncclResult_t Send(const void* from, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                  cudaStream_t stream) {
  Message* message = Add(count, type, peer, comm, stream);
  if (message == nullptr || message->from != nullptr) return ncclInvalidUsage;
  message->from = static_cast<const float*>(from);
  return ncclSuccess;
}

ncclResult_t Recv(void* to, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                  cudaStream_t stream) {
  Message* message = Add(count, type, peer, comm, stream);
  if (message == nullptr || message->to != nullptr) return ncclInvalidUsage;
  message->to = static_cast<float*>(to);
  return ncclSuccess;
}

ncclResult_t GroupEnd() {
  const Group group = std::exchange(TheGroup(), {});
  if (!group.open) return ncclInvalidUsage;
  if (group.comm == nullptr) return ncclSuccess;
  for (const Message& each : group.peers) {
    if (each.from == nullptr || each.to == nullptr) return ncclInvalidUsage;
  }
  cuda::emulated::SubmitHost(
      [group] {
        SharedCollective& ranks = *group.comm->ranks;
        const size_t size = group.peers.size(), count = group.count;
        std::vector<float> sent, all(size * size * count);
        for (const Message& each : group.peers) {
          sent.insert(sent.end(), each.from, each.from + count);
        }
        Gather(ranks, sent.data(), size * count, all.data());
        const size_t mine = static_cast<size_t>(ranks.rank());
        for (size_t r = 0; r < size; ++r) {
          std::copy_n(all.data() + (r * size + mine) * count, count, group.peers[r].to);
        }
      },
      group.stream);
  return ncclSuccess;
}

const char* GetErrorString(ncclResult_t result) {
  return result == ncclSuccess ? "no error" : "a fake error";
}
const char* GetLastError(ncclComm_t) { return ""; }

}  // namespace

absl::StatusOr<const NcclApi*> LoadNccl() {
  static const NcclApi api = {.get_unique_id = GetUniqueId,
                              .comm_init_rank_config = CommInitRankConfig,
                              .comm_get_async_error = CommGetAsyncError,
                              .all_gather = AllGather,
                              .send = Send,
                              .recv = Recv,
                              .group_start = GroupStart,
                              .group_end = GroupEnd,
                              .get_error_string = GetErrorString,
                              .get_last_error = GetLastError};
  return &api;
}

}  // namespace conclave::worker
