// Ranks on the real NCCL: processes that share one GPU, or have one each.
#include <absl/time/clock.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "common/status.h"
#include "tests/unit/worker/collective/nccl/rank_processes.h"
#include "worker/group/beat.h"
#include "worker/launch/judge.h"

namespace conclave::worker {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr absl::Duration kLimit = absl::Seconds(40);

#define CUDA_OR_RETURN(call)                                        \
  do {                                                              \
    if (const cudaError_t error_ = (call); error_ != cudaSuccess) { \
      return Internal("{}: {}", #call, cudaGetErrorString(error_)); \
    }                                                               \
  } while (false)

// Numbers whose sums differ with the order of addition.
std::vector<float> Part(int rank, size_t count, uint32_t round = 0) {
  std::mt19937 generator(static_cast<uint32_t>(rank) + 1 + 100 * round);
  std::uniform_real_distribution<float> uniform(-1e6f, 1e6f);
  std::vector<float> part(count);
  for (float& v : part) v = uniform(generator) * (rank % 2 == 0 ? 1.0f : 1e-6f);
  return part;
}

std::vector<float> SumInRankOrder(int size, size_t count, uint32_t round = 0) {
  std::vector<float> sum = Part(0, count, round);
  for (int r = 1; r < size; ++r) {
    const std::vector<float> part = Part(r, count, round);
    for (size_t i = 0; i < count; ++i) sum[i] += part[i];
  }
  return sum;
}

absl::Status SameBits(const std::vector<float>& found, const std::vector<float>& expected,
                      std::string_view what) {
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::memcmp(&found[i], &expected[i], sizeof(float)) != 0) {
      return Internal("{}: {} in place of {} at {} of {}", what, found[i], expected[i], i,
                      expected.size());
    }
  }
  return absl::OkStatus();
}

// A tensor in the device's memory, never freed: its process ends soon.
absl::StatusOr<Tensor> Allocate(int64_t rows, int64_t cols) {
  float* memory = nullptr;
  CUDA_OR_RETURN(cudaMalloc(reinterpret_cast<void**>(&memory), sizeof(float) * rows * cols));
  return Tensor::Dense(memory, rows, cols);
}

absl::Status Upload(const JoinedRank& rank, const std::vector<float>& values, Tensor to) {
  CUDA_OR_RETURN(cudaMemcpyAsync(to.data, values.data(), sizeof(float) * values.size(),
                                 cudaMemcpyHostToDevice, rank.stream));
  CUDA_OR_RETURN(cudaStreamSynchronize(rank.stream));
  return absl::OkStatus();
}

absl::Status Check(const JoinedRank& rank, Tensor found, const std::vector<float>& expected,
                   std::string_view what) {
  std::vector<float> values(expected.size());
  CUDA_OR_RETURN(cudaMemcpyAsync(values.data(), found.data, sizeof(float) * values.size(),
                                 cudaMemcpyDeviceToHost, rank.stream));
  CUDA_OR_RETURN(cudaStreamSynchronize(rank.stream));
  CUDA_OR_RETURN(cudaGetLastError());
  return SameBits(values, expected, what);
}

absl::Status SumsOfAllSizes(const JoinedRank& rank) {
  const int r = rank.collective->rank(), size = rank.collective->size();
  for (const int64_t count : {1, 3, 1000, 4096, 65'536, 70'001, 300'000, (2 << 20) + 5}) {
    ASSIGN_OR_RETURN(const Tensor x, Allocate(1, count));
    RETURN_IF_ERROR(Upload(rank, Part(r, static_cast<size_t>(count)), x));
    RETURN_IF_ERROR(rank.collective->AllReduceSum(x));
    RETURN_IF_ERROR(Check(rank, x, SumInRankOrder(size, static_cast<size_t>(count)),
                          fmt::format("sum of {}", count)));
  }
  return absl::OkStatus();
}

absl::Status RowsAloneAndTogether(const JoinedRank& rank) {
  constexpr int64_t kRows = 16, kWidth = 4096;
  const int r = rank.collective->rank(), size = rank.collective->size();
  ASSIGN_OR_RETURN(const Tensor x, Allocate(kRows, kWidth));
  const std::vector<float> part = Part(r, kRows * kWidth);
  const std::vector<float> expected = SumInRankOrder(size, kRows * kWidth);
  RETURN_IF_ERROR(Upload(rank, part, x));
  RETURN_IF_ERROR(rank.collective->AllReduceSum(x));
  RETURN_IF_ERROR(Check(rank, x, expected, "rows together"));
  RETURN_IF_ERROR(Upload(rank, part, x));
  for (int64_t n = 0; n < kRows; ++n) RETURN_IF_ERROR(rank.collective->AllReduceSum(x.Rows(n, 1)));
  return Check(rank, x, expected, "rows alone");
}

// Two sums in one graph, replayed with other numbers, and one beside it.
absl::Status SumsInAGraph(const JoinedRank& rank) {
  constexpr int64_t kWidth = 4096;
  const int r = rank.collective->rank(), size = rank.collective->size();
  ASSIGN_OR_RETURN(const Tensor x, Allocate(1, kWidth));
  ASSIGN_OR_RETURN(const Tensor y, Allocate(16, kWidth));
  const auto sums = [&]() -> absl::Status {
    RETURN_IF_ERROR(rank.collective->AllReduceSum(x));
    return rank.collective->AllReduceSum(y);
  };
  RETURN_IF_ERROR(sums());
  CUDA_OR_RETURN(cudaStreamSynchronize(rank.stream));
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t recording = nullptr;
  CUDA_OR_RETURN(cudaStreamBeginCapture(rank.stream, cudaStreamCaptureModeThreadLocal));
  RETURN_IF_ERROR(sums());
  CUDA_OR_RETURN(cudaStreamEndCapture(rank.stream, &graph));
  CUDA_OR_RETURN(cudaGraphInstantiate(&recording, graph, 0));
  for (uint32_t round = 1; round <= 3; ++round) {
    RETURN_IF_ERROR(Upload(rank, Part(r, kWidth, round), x));
    RETURN_IF_ERROR(Upload(rank, Part(r, 16 * kWidth, round), y));
    CUDA_OR_RETURN(cudaGraphLaunch(recording, rank.stream));
    RETURN_IF_ERROR(Check(rank, x, SumInRankOrder(size, kWidth, round), "a graph's first sum"));
    RETURN_IF_ERROR(Check(rank, y, SumInRankOrder(size, 16 * kWidth, round), "its second sum"));
  }
  RETURN_IF_ERROR(Upload(rank, Part(r, kWidth, 9), x));
  RETURN_IF_ERROR(rank.collective->AllReduceSum(x));
  return Check(rank, x, SumInRankOrder(size, kWidth, 9), "a sum after graphs");
}

absl::Status GathersOnTheHost(const JoinedRank& rank) {
  constexpr size_t kCount = 1000;
  const int r = rank.collective->rank(), size = rank.collective->size();
  std::vector<float> expected, found(kCount * static_cast<size_t>(size));
  for (int each = 0; each < size; ++each) {
    const std::vector<float> part = Part(each, kCount);
    expected.insert(expected.end(), part.begin(), part.end());
  }
  RETURN_IF_ERROR(rank.collective->AllGather(Part(r, kCount).data(), kCount, found.data()));
  return SameBits(found, expected, "parts");
}

class NcclTest : public testing::Test {
 protected:
  void SetUp() override {
    static const std::string why = WhyNoRanks();
    if (!why.empty()) GTEST_SKIP() << why;
  }
};

// How many ranks, and whether they store in one another's memory.
struct Manner {
  int size = 2;
  bool peers = true;
};
void PrintTo(const Manner& manner, std::ostream* to) {
  *to << manner.size << (manner.peers ? " peers" : " ranks");
}

class NcclRanksTest : public NcclTest, public testing::WithParamInterface<Manner> {};

// One group for all of it: to form one takes seconds.
TEST_P(NcclRanksTest, SumsAreInRankOrderOfAllSizesAloneTogetherAndInGraphs) {
  RankProcesses ranks(GetParam().size, [](int r, Meeting& meeting) -> absl::Status {
    const auto [size, peers] = GetParam();
    ASSIGN_OR_RETURN(const JoinedRank rank, JoinedRank::Join(r, size, meeting, {.peers = peers}));
    if (rank.collective->name().ends_with("between peers") != peers) {
      return Internal("it sums by {}", rank.collective->name());
    }
    RETURN_IF_ERROR(SumsOfAllSizes(rank));
    RETURN_IF_ERROR(RowsAloneAndTogether(rank));
    RETURN_IF_ERROR(SumsInAGraph(rank));
    return GathersOnTheHost(rank);
  });

  const std::vector<std::string> complaints = ranks.Complaints(kLimit);
  // A machine whose GPUs don't reach one another: nothing of ours.
  if (GetParam().peers && complaints[0].find("cannot reach the memory") != std::string::npos) {
    GTEST_SKIP() << complaints[0];
  }
  EXPECT_THAT(complaints, Each(IsEmpty()));
}
INSTANTIATE_TEST_SUITE_P(Manners, NcclRanksTest,
                         testing::Values(Manner{2, true}, Manner{4, true}, Manner{2, false},
                                         Manner{4, false}));

// A group of two, rank 1's in a manner of its own after `arrange`: every rank says how it sums, and
// that the sums are right.
std::vector<std::string> WaysOfTwo(void (*arrange)(), const JoinedRank::Manner& manner) {
  RankProcesses ranks(2, [&](int r, Meeting& meeting) -> absl::Status {
    if (r == 1) arrange();
    JoinedRank::Manner own = manner;
    own.peers = r == 0 || manner.peers;
    ASSIGN_OR_RETURN(const JoinedRank rank, JoinedRank::Join(r, 2, meeting, own));
    RETURN_IF_ERROR(RowsAloneAndTogether(rank));
    return Aborted("{}", rank.collective->name());
  });
  return ranks.Complaints(kLimit);
}

TEST_F(NcclTest, OneRankThatMayNotUsePeersKeepsAllFromIt) {
  EXPECT_THAT(WaysOfTwo([] {}, {.peers = false}),
              Each(HasSubstr("not between peers: rank 1: it was not asked for")));
}

#ifdef CONCLAVE_CUDA_EMULATED  // NCCL itself would not take what rank 1 alone is told.
TEST_F(NcclTest, WhatKeepsNcclFromPeersKeepsSumsFromThem) {
  EXPECT_THAT(WaysOfTwo([] { setenv("NCCL_P2P_DISABLE", "1", 1); }, {}),
              Each(HasSubstr("not between peers: rank 1: NCCL_P2P_DISABLE is 1")));
}

TEST_F(NcclTest, OneRankThatDoesNotReachItsPeersKeepsAllFromIt) {
  EXPECT_THAT(WaysOfTwo([] { setenv("EMULATED_CUDA_PEERS", "none", 1); }, {}),
              Each(HasSubstr("not between peers: rank 1: cannot reach the memory of rank 0")));
}

TEST_F(NcclTest, PeersWhoseNumbersArriveChangedAreFoundOut) {
  EXPECT_THAT(WaysOfTwo([] { setenv("EMULATED_CUDA_PEERS", "noisy", 1); }, {}),
              Each(HasSubstr("not between peers: rank 0: a trial of 131072 floats")));
}

TEST_F(NcclTest, PeersWhoseStoresDoNotArriveAreFoundOut) {
  EXPECT_THAT(WaysOfTwo([] { setenv("EMULATED_CUDA_PEERS", "deaf", 1); },
                        {.trial_patience = absl::Seconds(1)}),
              Each(HasSubstr("not between peers: rank 0: what a peer sent did not come")));
}
#endif

// Rank 0 sums in step 1, for which it has two seconds; rank 1 is there, but does not.
absl::Status WaitInVain(int r, Meeting& meeting, bool dies, bool peers = true) {
  RankCell& cell = meeting.cells[r];
  const Beat beat(cell, meeting.launcher_beat, [] { _exit(75); });
  ASSIGN_OR_RETURN(const JoinedRank rank, JoinedRank::Join(r, 2, meeting, {.peers = peers}));
  ASSIGN_OR_RETURN(const Tensor x, Allocate(1, 4096));
  RETURN_IF_ERROR(rank.collective->AllReduceSum(x));  // Connects.
  CUDA_OR_RETURN(cudaStreamSynchronize(rank.stream));
  cell.ready.store(1, std::memory_order_release);
  if (r == 1 && dies) raise(SIGKILL);
  if (r == 1) absl::SleepFor(kLimit);
  BeginStep(cell, 1, absl::Seconds(2));
  RETURN_IF_ERROR(rank.collective->AllReduceSum(x));
  CUDA_OR_RETURN(cudaStreamSynchronize(rank.stream));
  return Internal("a sum without rank 1 came to an end");
}

// Looks at two ranks as the launcher does, until it has something against one of them.
// `sees_exits`: otherwise it is as if they were on another host.
std::string Verdict(RankProcesses& ranks, bool sees_exits) {
  constexpr absl::Duration kTick = absl::Milliseconds(50);
  Judge judge(2, kTick, {});
  uint64_t turns = 0;
  for (const absl::Time end = absl::Now() + kLimit; absl::Now() < end; absl::SleepFor(kTick)) {
    ranks.meeting().launcher_beat.fetch_add(1, std::memory_order_release);
    std::vector<RankSight> sights;
    for (int r = 0; r < 2; ++r) {
      RankSight sight = LookAt(ranks.meeting().cells[r]);
      const std::optional<int> exit = ranks.Exit(r);
      if (exit.has_value() && sees_exits) {
        sight.exit = RankExit{.code = WEXITSTATUS(*exit),
                              .signal = WIFSIGNALED(*exit) ? WTERMSIG(*exit) : 0};
      } else if (exit.has_value()) {
        sight.beat = ++turns;
      }
      sights.push_back(sight);
    }
    if (const auto loss = judge.Turn(sights); loss.has_value()) return loss->reason;
  }
  return "none";
}

// A process that hangs in a collective is gone soon after it was killed.
void ExpectQuickEnd(RankProcesses& ranks, int rank) {
  const absl::Time begin = absl::Now();
  ranks.Kill(rank);
  while (!ranks.Exit(rank).has_value() && absl::Now() < begin + absl::Seconds(10)) {
    absl::SleepFor(absl::Milliseconds(5));
  }
  EXPECT_TRUE(ranks.Exit(rank).has_value());
  std::printf("killed in a collective, gone after %s\n",
              absl::FormatDuration(absl::Now() - begin).c_str());
}

class StuckRanksTest : public NcclTest {};

TEST_F(StuckRanksTest, ARankWhosePeersDoNotComeGivesUp) {
  RankProcesses ranks(1, [](int r, Meeting& meeting) {
    return JoinedRank::Join(r, 2, meeting, {.patience = absl::Seconds(1)}).status();
  });

  EXPECT_THAT(ranks.Complaints(kLimit), Each(HasSubstr("rank 0 waited 1s for the 2 ranks")));
}

TEST_F(StuckRanksTest, ASumThatAPeerDoesNotJoinEndsByItsStepsDeadline) {
  RankProcesses ranks(2, [](int r, Meeting& meeting) { return WaitInVain(r, meeting, false); });

  EXPECT_THAT(Verdict(ranks, true), HasSubstr("rank 0 (pid 0) is late with step 1"));
  ExpectQuickEnd(ranks, 0);
}

TEST_F(StuckRanksTest, SoDoesOneThatGoesThroughTheLibrary) {
  RankProcesses ranks(2,
                      [](int r, Meeting& meeting) { return WaitInVain(r, meeting, false, false); });

  EXPECT_THAT(Verdict(ranks, true), HasSubstr("rank 0 (pid 0) is late with step 1"));
  ExpectQuickEnd(ranks, 0);
}

TEST_F(StuckRanksTest, AKilledPeerIsSeenAtOnce) {
  RankProcesses ranks(2, [](int r, Meeting& meeting) { return WaitInVain(r, meeting, true); });

  EXPECT_THAT(Verdict(ranks, true), HasSubstr("rank 1 (pid 0) was killed by signal 9"));
  ExpectQuickEnd(ranks, 0);
}

TEST_F(StuckRanksTest, AKilledPeerThatNobodySeesEndsByTheStepsDeadline) {
  RankProcesses ranks(2, [](int r, Meeting& meeting) { return WaitInVain(r, meeting, true); });

  EXPECT_THAT(Verdict(ranks, false), HasSubstr("is late with step 1"));
  ExpectQuickEnd(ranks, 0);
}

}  // namespace
}  // namespace conclave::worker
