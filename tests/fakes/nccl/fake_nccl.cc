// NCCL for emulated devices: the ranks are processes of this machine and exchange in shared memory.
// They find each other as with NCCL: on the interface that NCCL_SOCKET_IFNAME names, and no two of
// a host (a network namespace, or what NCCL_HOSTID says) have the same device. What is put on a
// stream happens when the stream runs, as on a device. A group of sends and receives is one
// exchange of equal parts between all ranks. NCCL_DEBUG=INFO: each rank says where it joins.

#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
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

// Communicators live as long as the process.
ncclComm_t Keep(std::unique_ptr<SharedCollective> ranks) {
  static auto* const kept = new std::deque<ncclComm>;
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  kept->push_back({std::move(ranks)});
  return &kept->back();
}

std::string Variable(const char* name, const std::string& otherwise) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : otherwise;
}

// A socket on this process's interface, at any port; -1: there is no such interface.
int OpenSocket() {
  const std::string name = Variable("NCCL_SOCKET_IFNAME", "=lo");
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return -1;
  int fd = -1;
  for (const ifaddrs* each = list; each != nullptr && fd < 0; each = each->ifa_next) {
    if (each->ifa_addr == nullptr || each->ifa_addr->sa_family != AF_INET ||
        name != std::string("=") + each->ifa_name) {
      continue;
    }
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && bind(fd, each->ifa_addr, sizeof(sockaddr_in)) != 0) close(std::exchange(fd, -1));
  }
  freeifaddrs(list);
  return fd;
}

// What a group's id holds.
struct Meeting {
  std::array<char, 64> memory;
  sockaddr_in root;  // Where rank 0 listens.
};
static_assert(sizeof(Meeting) <= sizeof(ncclUniqueId));

ncclResult_t GetUniqueId(ncclUniqueId* id) {
  const int fd = memfd_create("fake-nccl", 0);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(SharedCollectiveBytes(kMostRanks))) != 0) {
    return ncclSystemError;
  }
  Meeting meeting = {};
  fmt::format("/proc/{}/fd/{}", getpid(), fd)
      .copy(meeting.memory.data(), meeting.memory.size() - 1);
  const int listener = OpenSocket();  // Open as long as the process.
  socklen_t size = sizeof(meeting.root);
  if (listener < 0 || listen(listener, kMostRanks) != 0 ||
      getsockname(listener, reinterpret_cast<sockaddr*>(&meeting.root), &size) != 0) {
    return ncclSystemError;
  }
  *id = {};
  std::memcpy(id->internal, &meeting, sizeof(meeting));
  return ncclSuccess;
}

bool Reaches(const sockaddr_in& root) {
  const int fd = OpenSocket();
  const bool reached =
      fd >= 0 && connect(fd, reinterpret_cast<const sockaddr*>(&root), sizeof(root)) == 0;
  if (fd >= 0) close(fd);
  return reached;
}

// Where a rank is. Travels as floats, whose bits nobody looks at.
struct Place {
  uint32_t host = 0;  // A hash.
  int32_t device = 0;
};

// Nobody may have another's place.
ncclResult_t Meet(SharedCollective& ranks) {
  std::error_code error;
  const std::string host =
      Variable("NCCL_HOSTID", std::filesystem::read_symlink("/proc/self/ns/net", error).string());
  Place place;
  place.host = static_cast<uint32_t>(std::hash<std::string>()(host));
  if (cudaGetDevice(&place.device) != cudaSuccess) return ncclUnhandledCudaError;
  if (Variable("NCCL_DEBUG", "") == "INFO") {
    std::cerr << fmt::format("fake NCCL: rank {} of {} at {}, host {}, device {}\n", ranks.rank(),
                             ranks.size(), Variable("NCCL_SOCKET_IFNAME", "=lo"), host,
                             place.device);
  }
  constexpr size_t kFloats = sizeof(Place) / sizeof(float);
  std::array<float, kFloats> own;
  std::vector<float> all(kFloats * static_cast<size_t>(ranks.size()));
  std::memcpy(own.data(), &place, sizeof(place));
  if (!ranks.AllGather(own.data(), kFloats, all.data()).ok()) return ncclRemoteError;
  int here = 0;
  for (size_t at = 0; at < all.size(); at += kFloats) {
    here += std::memcmp(&all[at], &place, sizeof(place)) == 0 ? 1 : 0;
  }
  return here == 1 ? ncclSuccess : ncclInvalidUsage;
}

ncclResult_t CommInitRankConfig(ncclComm_t* comm, int size, ncclUniqueId id, int rank,
                                ncclConfig_t* config) {
  if (size > kMostRanks || config->blocking != 1) return ncclInvalidArgument;
  Meeting meeting;
  std::memcpy(&meeting, id.internal, sizeof(meeting));
  if (!Reaches(meeting.root)) return ncclSystemError;
  const int fd = open(meeting.memory.data(), O_RDWR);
  if (fd < 0) return ncclSystemError;
  void* memory =
      mmap(nullptr, SharedCollectiveBytes(kMostRanks), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (memory == MAP_FAILED) return ncclSystemError;
  *comm = Keep(std::make_unique<SharedCollective>(memory, rank, size, kPatience));
  return Meet(*(*comm)->ranks);
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
