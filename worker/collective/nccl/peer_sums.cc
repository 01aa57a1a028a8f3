#include "worker/collective/nccl/peer_sums.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/status.h"
#include "worker/collective/exchange.h"

namespace conclave::worker {
namespace {

// Floats of each sum that is tried: both halves of the inbox, few numbers and as many as there may
// be.
constexpr int64_t kTrials[] = {cuda::kMostPeerFloats, cuda::kMostPeerFloats - 1, 1, 4096, 4097};

// A CUDA call of this rank that went wrong; forgotten by the runtime, for the rank goes on without.
absl::Status Tried(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return absl::OkStatus();
  (void)cudaGetLastError();
  cuda::failed_launch = {};
  return Unavailable("{}: {}", what, cudaGetErrorString(error));
}

// Empty where all ranks are well; otherwise the first one's complaint, on all of them.
absl::StatusOr<std::string> Agree(const absl::Status& mine, Collective& host) {
  std::array<char, 128> words{};  // Cut, with a zero byte at the end.
  if (!mine.ok()) MessageOf(mine).copy(words.data(), words.size() - 1);
  ASSIGN_OR_RETURN(const auto everyone, Exchange(words, host));
  for (size_t r = 0; r < everyone.size(); ++r) {
    const std::string why = everyone[r].data();
    if (!why.empty()) return fmt::format("rank {}: {}", r, why);
  }
  return std::string();
}

absl::Status CheckAsked(const NcclOptions& options) {
  if (!options.peers) return Unavailable("it was not asked for");
  if (!options.address.empty()) return Unavailable("ranks are on several hosts");
  if (options.size > cuda::kMostPeers) {
    return Unavailable("{} ranks; the most is {}", options.size, cuda::kMostPeers);
  }
  const char* disabled = std::getenv("NCCL_P2P_DISABLE");
  if (disabled != nullptr && std::string_view(disabled) == "1") {
    return Unavailable("NCCL_P2P_DISABLE is 1");
  }
  return absl::OkStatus();
}

// A rank's part of a trial: numbers whose sums differ with the order of addition. Exact, so that
// every compiler gives the same.
float TrialPart(int rank, int64_t i, uint32_t round) {
  const uint32_t mixed = (static_cast<uint32_t>(i) + 1) * 2654435761u ^ round * 40503u;
  const float digits = static_cast<float>(mixed >> (rank % 8) & 0xff'ffff);
  return rank % 2 == 0 ? digits : digits * 0x1p-20f;
}

}  // namespace

PeerSums::PeerSums(const NcclOptions& options) : stream_(options.stream), device_(options.device) {
  args_.rank = options.rank, args_.size = options.size;
  args_.alone = !options.device_is_shared;
}

absl::StatusOr<PeerSums::Joined> PeerSums::Join(const NcclOptions& options, Collective& host) {
  Joined none;
  const auto all_are_well = [&](const absl::Status& mine) -> absl::StatusOr<bool> {
    ASSIGN_OR_RETURN(none.why_not, Agree(mine, host));
    return none.why_not.empty();
  };
  ASSIGN_OR_RETURN(bool well, all_are_well(CheckAsked(options)));
  if (!well) return none;
  std::unique_ptr<PeerSums> sums(new PeerSums(options));
  cudaIpcMemHandle_t handle = {};
  ASSIGN_OR_RETURN(well, all_are_well(sums->Allocate(&handle)));
  if (!well) return none;
  ASSIGN_OR_RETURN(const auto handles, Exchange(handle, host));
  ASSIGN_OR_RETURN(well, all_are_well(sums->Open(handles)));
  if (!well) return none;
  sums->args_.patience_ns = absl::ToInt64Nanoseconds(options.trial_patience);
  uint32_t round = 0;
  for (const int64_t count : kTrials) {  // Agreed on one by one: who failed is not waited for.
    ASSIGN_OR_RETURN(well, all_are_well(sums->Prove(count, ++round)));
    if (!well) return none;
  }
  sums->args_.patience_ns = 0;
  return Joined{std::move(sums), ""};
}

absl::Status PeerSums::Allocate(cudaIpcMemHandle_t* handle) {
  constexpr size_t kPiece = size_t{2} << 20;  // What is shared shares all of its pieces.
  const size_t words = static_cast<size_t>(cuda::PeerInboxWords(args_.size)) * sizeof(uint64_t);
  const size_t inbox = (words + kPiece - 1) / kPiece * kPiece;
  constexpr size_t kCalls = cuda::kPeerBlocks * sizeof(uint32_t);
  void *own = nullptr, *calls = nullptr;
  RETURN_IF_ERROR(Tried(cudaSetDevice(device_), "cannot use the device"));
  RETURN_IF_ERROR(
      Tried(cudaDeviceGetAttribute(&multiprocessors_, cudaDevAttrMultiProcessorCount, device_),
            "cannot look at the device"));
  RETURN_IF_ERROR(Tried(cudaMalloc(&own, inbox), "no room for what peers send"));
  RETURN_IF_ERROR(Tried(cudaMalloc(&calls, kCalls + sizeof(uint32_t)), "no room for a count"));
  RETURN_IF_ERROR(Tried(cudaMemsetAsync(own, 0, inbox, stream_), "cannot clear memory"));
  RETURN_IF_ERROR(
      Tried(cudaMemsetAsync(calls, 0, kCalls + sizeof(uint32_t), stream_), "cannot clear memory"));
  RETURN_IF_ERROR(Tried(cudaStreamSynchronize(stream_), "cannot clear memory"));
  args_.inboxes[args_.rank] = static_cast<uint64_t*>(own);
  args_.calls = static_cast<uint32_t*>(calls);
  args_.late = args_.calls + cuda::kPeerBlocks;
  return Tried(cudaIpcGetMemHandle(handle, own), "memory cannot be shared between processes");
}

absl::Status PeerSums::Open(const std::vector<cudaIpcMemHandle_t>& handles) {
  for (int peer = 0; peer < args_.size; ++peer) {
    if (peer == args_.rank) continue;
    void* memory = nullptr;
    RETURN_IF_ERROR(Tried(cudaIpcOpenMemHandle(&memory, handles[static_cast<size_t>(peer)],
                                               cudaIpcMemLazyEnablePeerAccess),
                          fmt::format("cannot reach the memory of rank {}", peer)));
    args_.inboxes[peer] = static_cast<uint64_t*>(memory);
  }
  return absl::OkStatus();
}

absl::Status PeerSums::Prove(int64_t count, uint32_t round) {
  const size_t bytes = static_cast<size_t>(count) * sizeof(float);
  std::vector<float> part(static_cast<size_t>(count)), expected(part.size());
  for (int64_t i = 0; i < count; ++i) {
    part[static_cast<size_t>(i)] = TrialPart(args_.rank, i, round);
    float sum = TrialPart(0, i, round);
    for (int r = 1; r < args_.size; ++r) sum += TrialPart(r, i, round);
    expected[static_cast<size_t>(i)] = sum;
  }
  void* x = nullptr;
  uint32_t late = 0;
  RETURN_IF_ERROR(Tried(cudaMalloc(&x, bytes), "no room for a trial"));
  cudaError_t error = cudaMemcpyAsync(x, part.data(), bytes, cudaMemcpyHostToDevice, stream_);
  if (error == cudaSuccess) {
    Sum(static_cast<float*>(x), count);
    error = cudaGetLastError();
  }
  if (error == cudaSuccess) {
    error = cudaMemcpyAsync(part.data(), x, bytes, cudaMemcpyDeviceToHost, stream_);
  }
  if (error == cudaSuccess) {
    error = cudaMemcpyAsync(&late, args_.late, sizeof(late), cudaMemcpyDeviceToHost, stream_);
  }
  if (error == cudaSuccess) error = cudaStreamSynchronize(stream_);
  (void)cudaFree(x);
  RETURN_IF_ERROR(Tried(error, "a trial failed"));
  if (late != 0) return Unavailable("what a peer sent did not come");
  if (std::memcmp(part.data(), expected.data(), bytes) != 0) {
    return Unavailable("a trial of {} floats gave a wrong sum", count);
  }
  return absl::OkStatus();
}

}  // namespace conclave::worker
