// Measures how long ranks on GPUs take for one sum of a step, by stores into one another's memory
// beside NCCL, in the same graph lengths, one after the other. Ranks that share a GPU take turns on
// it: then the figures say only that it runs.
//
//   gpu_sums_bench [RANKS]     2 to 8. Exits with 77 where there is no GPU.
#include <absl/time/clock.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/status.h"
#include "tests/unit/worker/collective/nccl/rank_processes.h"

namespace conclave::worker {
namespace {

constexpr int kSumsOfAGraph = 64, kTries = 20;
// Rows of 4096: one agent's, eight agents', sixteen agents', and the most that peers exchange.
constexpr int64_t kCounts[] = {4096, 8 * 4096, 16 * 4096, 32 * 4096};
constexpr size_t kNumCounts = std::size(kCounts);

absl::Status Done(cudaError_t error) {
  return error == cudaSuccess ? absl::OkStatus() : Internal("{}", cudaGetErrorString(error));
}

// Seconds of one sum in a graph of many: the best of several tries.
absl::StatusOr<double> Measure(const JoinedRank& rank, int64_t count) {
  float* memory = nullptr;
  RETURN_IF_ERROR(Done(cudaMalloc(&memory, sizeof(float) * count)));
  RETURN_IF_ERROR(Done(cudaMemsetAsync(memory, 0, sizeof(float) * count, rank.stream)));
  const Tensor x = Tensor::Dense(memory, 1, count);
  RETURN_IF_ERROR(rank.collective->AllReduceSum(x));
  RETURN_IF_ERROR(Done(cudaStreamSynchronize(rank.stream)));
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t recording = nullptr;
  RETURN_IF_ERROR(Done(cudaStreamBeginCapture(rank.stream, cudaStreamCaptureModeThreadLocal)));
  for (int i = 0; i < kSumsOfAGraph; ++i) RETURN_IF_ERROR(rank.collective->AllReduceSum(x));
  RETURN_IF_ERROR(Done(cudaStreamEndCapture(rank.stream, &graph)));
  RETURN_IF_ERROR(Done(cudaGraphInstantiate(&recording, graph, 0)));
  double best = 1e9;
  for (int i = 0; i < kTries; ++i) {
    RETURN_IF_ERROR(Done(cudaGraphLaunch(recording, rank.stream)));  // All ranks are here.
    RETURN_IF_ERROR(Done(cudaStreamSynchronize(rank.stream)));
    const absl::Time begin = absl::Now();
    RETURN_IF_ERROR(Done(cudaGraphLaunch(recording, rank.stream)));
    RETURN_IF_ERROR(Done(cudaStreamSynchronize(rank.stream)));
    best = std::min(best, absl::ToDoubleSeconds(absl::Now() - begin) / kSumsOfAGraph);
  }
  return best;
}

// Microseconds of each count, of rank 0; prints how it sums.
std::vector<double> MicrosOf(int ranks, bool peers) {
  RankProcesses processes(ranks, [&](int r, Meeting& meeting) -> absl::Status {
    ASSIGN_OR_RETURN(const JoinedRank rank, JoinedRank::Join(r, ranks, meeting, {.peers = peers}));
    if (r == 0) fmt::print("# {}\n", rank.collective->name());
    std::fflush(stdout);
    for (size_t i = 0; i < kNumCounts; ++i) {
      ASSIGN_OR_RETURN(const double seconds, Measure(rank, kCounts[i]));
      meeting.said[r][i] = static_cast<int32_t>(seconds * 1e9);
    }
    return absl::OkStatus();
  });
  for (const std::string& complaint : processes.Complaints(absl::Minutes(3))) {
    if (!complaint.empty()) throw std::runtime_error(complaint);
  }
  std::vector<double> micros;
  for (size_t i = 0; i < kNumCounts; ++i) micros.push_back(processes.meeting().said[0][i] / 1e3);
  return micros;
}

void Run(int ranks) {
  const std::vector<double> peers = MicrosOf(ranks, true), nccl = MicrosOf(ranks, false);
  fmt::print("{:>6} {:>8} {:>10} {:>10} {:>7}\n", "ranks", "floats", "peers us", "nccl us",
             "ratio");
  for (size_t i = 0; i < kNumCounts; ++i) {
    fmt::print("{:>6} {:>8} {:>10.2f} {:>10.2f} {:>7.2f}\n", ranks, kCounts[i], peers[i], nccl[i],
               nccl[i] / peers[i]);
  }
}

}  // namespace
}  // namespace conclave::worker

int main(int argc, char** argv) {
  const std::string why = conclave::worker::WhyNoRanks();
  if (!why.empty()) {
    fmt::print("skipped: {}\n", why);
    return 77;
  }
  try {
    conclave::worker::Run(
        std::clamp(argc > 1 ? std::atoi(argv[1]) : 2, 2, conclave::worker::kMostRanks));
  } catch (const std::exception& error) {
    fmt::print(stderr, "gpu_sums_bench: {}\n", error.what());
    return 1;
  }
  return 0;
}
