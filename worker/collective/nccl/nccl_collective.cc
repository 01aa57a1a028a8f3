#include "worker/collective/nccl/nccl_collective.h"

#include <absl/synchronization/notification.h>

#include <algorithm>
#include <cstring>
#include <thread>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "worker/backend/cuda/rows.h"
#include "worker/collective/nccl/nccl_api.h"
#include "worker/collective/nccl/nccl_environment.h"
#include "worker/collective/nccl/peer_sums.h"

namespace conclave::worker {
namespace {

// At most this much of a tensor is summed at once: what bounds the scratch. 8 MB.
constexpr int64_t kSliceFloats = int64_t{2} << 20;
// From here on more than two ranks share the sum out: see Share(). 256 KB.
constexpr int64_t kLeastShared = int64_t{64} << 10;

int64_t ScratchFloats(int size) {
  return size == 2 ? 2 * kSliceFloats : std::max(kSliceFloats, size * kLeastShared);
}

absl::Status CudaStatus(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return absl::OkStatus();
  const absl::StatusCode code = error == cudaErrorMemoryAllocation
                                    ? absl::StatusCode::kResourceExhausted
                                    : absl::StatusCode::kInternal;
  return MakeStatus(code, fmt::format("{}: {}", what, cudaGetErrorString(error)));
}

absl::Status NcclStatus(const NcclApi& api, ncclResult_t result, std::string_view what) {
  if (result == ncclSuccess) return absl::OkStatus();
  std::string text = fmt::format("{}: {}", what, api.get_error_string(result));
  const char* last = api.get_last_error(nullptr);
  if (last != nullptr && *last != '\0') text += fmt::format(": {}", last);
  while (text.ends_with('\n')) text.pop_back();
  return MakeStatus(
      result == ncclRemoteError ? absl::StatusCode::kAborted : absl::StatusCode::kInternal, text);
}

class NcclCollective : public Collective {
 public:
  NcclCollective(const NcclApi& api, const NcclOptions& options, Collective& host, ncclComm_t comm,
                 float* parts, PeerSums::Joined peers)
      : api_(api),
        rank_(options.rank),
        size_(options.size),
        stream_(options.stream),
        host_(host),
        comm_(comm),
        parts_(parts),
        peers_(std::move(peers)) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string name() const override {
    return peers_.sums != nullptr ? "nccl, small sums between peers"
                                  : fmt::format("nccl (not between peers: {})", peers_.why_not);
  }

  absl::Status AllReduceSum(Tensor x) override {
    CHECK(x.dtype == DType::kF32 && (x.stride == x.cols || x.rows <= 1));
    RETURN_IF_ERROR(Poll());
    const int64_t count = x.rows * x.cols;
    for (int64_t at = 0; at < count; at += kSliceFloats) {
      lost_ = SumSlice(x.row(0) + at, std::min(kSliceFloats, count - at));
      RETURN_IF_ERROR(lost_);
    }
    return absl::OkStatus();
  }

  absl::Status AllGather(const float* part, int64_t count, float* out) override {
    RETURN_IF_ERROR(Poll());
    return host_.AllGather(part, count, out);
  }

 private:
  absl::Status Poll() {
    RETURN_IF_ERROR(lost_);
    ncclResult_t error = ncclSuccess;
    const ncclResult_t asked = api_.comm_get_async_error(comm_, &error);
    return lost_ = Told(asked != ncclSuccess ? asked : error, "ranks are out of touch");
  }

  absl::Status SumSlice(float* x, int64_t count) {
    if (peers_.sums != nullptr && peers_.sums->Takes(count)) {
      peers_.sums->Sum(x, count);
      return absl::OkStatus();
    }
    if (size_ > 2 && count >= kLeastShared) {
      const int64_t share = count / size_ / 4 * 4;  // Aligned to 16 bytes.
      RETURN_IF_ERROR(Share(x, share));
      x += share * size_;
      count -= share * size_;
    }
    return count > 0 ? Gather(x, count) : absl::OkStatus();
  }

  // Every rank gets all parts, and adds them.
  absl::Status Gather(float* x, int64_t count) {
    RETURN_IF_ERROR(
        Told(api_.all_gather(x, parts_, static_cast<size_t>(count), ncclFloat, comm_, stream_),
             "cannot gather the ranks' parts"));
    cuda::SumRanks(parts_, size_, count, x, stream_);
    return absl::OkStatus();
  }

  // Rank r gets all parts of the r-th of `size` shares and adds them; then all get all sums. The
  // same additions in the same order as Gather's; every rank reads 2 shares of each peer's in place
  // of all.
  absl::Status Share(float* x, int64_t share) {
    constexpr char kWhat[] = "cannot exchange shares of the ranks' parts";
    const size_t floats = static_cast<size_t>(share);
    RETURN_IF_ERROR(Told(api_.group_start(), kWhat));
    ncclResult_t result = ncclSuccess;
    for (int r = 0; r < size_; ++r) {
      const ncclResult_t sent = api_.send(x + r * share, floats, ncclFloat, r, comm_, stream_);
      const ncclResult_t got = api_.recv(parts_ + r * share, floats, ncclFloat, r, comm_, stream_);
      if (result == ncclSuccess) result = sent != ncclSuccess ? sent : got;
    }
    const ncclResult_t ended = api_.group_end();  // Also after an error: it closes the group.
    RETURN_IF_ERROR(Told(result != ncclSuccess ? result : ended, kWhat));
    float* mine = x + rank_ * share;
    cuda::SumRanks(parts_, size_, share, mine, stream_);
    return Told(api_.all_gather(mine, x, floats, ncclFloat, comm_, stream_), kWhat);
  }

  absl::Status Told(ncclResult_t result, std::string_view what) const {
    return NcclStatus(api_, result, what);
  }

  const NcclApi& api_;
  const int rank_, size_;
  const cudaStream_t stream_;
  Collective& host_;
  // These two live as long as the process: see JoinNccl.
  const ncclComm_t comm_;
  float* const parts_;  // On the device, ScratchFloats(size): the ranks' parts of a slice or share.
  const PeerSums::Joined peers_;
  absl::Status lost_;
};

// Joins on a thread of its own: a rank that never comes would hold this one for ever, and a
// communicator that doesn't block starts a thread for every call. The thread may outlive the wait,
// so it shares what it writes.
struct Joining {
  absl::Notification done;
  ncclComm_t comm = nullptr;
  absl::Status status;
};

absl::StatusOr<ncclComm_t> Join(const NcclApi& api, const NcclOptions& options) {
  ncclUniqueId id;
  std::memcpy(&id, options.id.data(), sizeof(id));
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 1;
  if (options.device_is_shared) config.maxCTAs = 2;  // They take turns.
  auto joining = std::make_shared<Joining>();
  std::thread([&api, joining, id, config, rank = options.rank, size = options.size,
               device = options.device]() mutable {
    joining->status = CudaStatus(cudaSetDevice(device), "cannot use the device");
    if (joining->status.ok()) {
      joining->status =
          NcclStatus(api, api.comm_init_rank_config(&joining->comm, size, id, rank, &config),
                     fmt::format("rank {} of {} cannot join the others", rank, size));
    }
    joining->done.Notify();
  }).detach();
  if (!joining->done.WaitForNotificationWithTimeout(options.patience)) {
    return DeadlineExceeded("rank {} waited {} for the {} ranks of its group to join", options.rank,
                            absl::FormatDuration(options.patience), options.size);
  }
  RETURN_IF_ERROR(joining->status);
  return joining->comm;
}

}  // namespace

absl::Status CheckNccl() { return LoadNccl().status(); }

absl::StatusOr<std::string> NcclId(const NcclOptions& options) {
  ASSIGN_OR_RETURN(const NcclApi* api, LoadNccl());
  RETURN_IF_ERROR(PrepareEnvironment(options));
  ncclUniqueId id;
  RETURN_IF_ERROR(NcclStatus(*api, api->get_unique_id(&id), "cannot name a group"));
  return std::string(id.internal, sizeof(id.internal));
}

absl::StatusOr<std::unique_ptr<Collective>> JoinNccl(const NcclOptions& options, Collective& host) {
  CHECK(options.size > 1 && options.rank == host.rank() && options.size == host.size());
  if (options.id.size() != sizeof(ncclUniqueId)) {
    return InvalidArgument("a group's id has {} bytes; this one has {}", sizeof(ncclUniqueId),
                           options.id.size());
  }
  ASSIGN_OR_RETURN(const NcclApi* api, LoadNccl());
  RETURN_IF_ERROR(PrepareEnvironment(options));
  RETURN_IF_ERROR(CudaStatus(cudaSetDevice(options.device), "cannot use the device"));
  float* parts = nullptr;
  const size_t bytes = sizeof(float) * static_cast<size_t>(ScratchFloats(options.size));
  RETURN_IF_ERROR(CudaStatus(cudaMalloc(reinterpret_cast<void**>(&parts), bytes),
                             fmt::format("cannot take {} bytes for the ranks' parts", bytes)));
  ASSIGN_OR_RETURN(const ncclComm_t comm, Join(*api, options));
  ASSIGN_OR_RETURN(PeerSums::Joined peers, PeerSums::Join(options, host));
  return std::make_unique<NcclCollective>(*api, options, host, comm, parts, std::move(peers));
}

}  // namespace conclave::worker
