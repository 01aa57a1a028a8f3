#include "worker/collective/shared_collective.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <thread>

#include "tests/unit/worker/collective/parts.h"

namespace conclave::worker {
namespace {

TEST(SharedCollectiveTest, SumsInRankOrderForEverySize) {
  for (const int size : {2, 3, 4}) {
    ThreadGroup group(size);
    std::vector<std::vector<std::vector<float>>> got(size);
    const std::vector<size_t> counts = {1, 3, 1000, 65'536, 65'537, 200'000};
    OnThreads(size, [&](int r) {
      const auto collective = group.Rank(r);
      for (const size_t count : counts) {
        std::vector<float> x = Part(r, count);
        ASSERT_TRUE(
            collective->AllReduceSum(Tensor::Dense(x.data(), 1, static_cast<int64_t>(count))).ok());
        got[r].push_back(x);
      }
    });
    for (size_t i = 0; i < counts.size(); ++i) {
      const std::vector<float> expected = SumInRankOrder(size, counts[i]);
      for (int r = 0; r < size; ++r) {
        EXPECT_EQ(std::memcmp(got[r][i].data(), expected.data(), counts[i] * 4), 0)
            << size << " " << counts[i];
      }
    }
  }
}

TEST(SharedCollectiveTest, AStridedTensorsOtherColumnsStayAsTheyAre) {
  ThreadGroup group(2);
  std::vector<std::vector<float>> x(2, {1, 2, 9, 3, 4, 9});
  OnThreads(2, [&](int r) {
    const auto collective = group.Rank(r);
    ASSERT_TRUE(collective->AllReduceSum(Tensor{x[r].data(), DType::kF32, 2, 2, 3}).ok());
  });

  EXPECT_EQ(x[0], (std::vector<float>{2, 4, 9, 6, 8, 9}));
  EXPECT_EQ(x[1], x[0]);
}

TEST(SharedCollectiveTest, GathersPartsInRankOrder) {
  const size_t count = 70'000;
  ThreadGroup group(3);
  std::vector<std::vector<float>> out(3, std::vector<float>(3 * count));
  OnThreads(3, [&](int r) {
    const auto collective = group.Rank(r);
    const std::vector<float> part = Part(r, count);
    ASSERT_TRUE(
        collective->AllGather(part.data(), static_cast<int64_t>(count), out[r].data()).ok());
  });

  for (int r = 0; r < 3; ++r) {
    for (int p = 0; p < 3; ++p) {
      EXPECT_EQ(std::memcmp(out[r].data() + p * count, Part(p, count).data(), count * 4), 0);
    }
  }
}

TEST(SharedCollectiveTest, APeerThatNeverComesIsAnErrorThatStays) {
  ThreadGroup group(2, absl::Milliseconds(30));
  const auto collective = group.Rank(0);
  std::vector<float> x(4);
  const Tensor tensor = Tensor::Dense(x.data(), 1, 4);

  EXPECT_EQ(collective->AllReduceSum(tensor).code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_EQ(collective->AllReduceSum(tensor).code(), absl::StatusCode::kDeadlineExceeded);
}

TEST(SharedCollectiveTest, AnAbortEndsEveryWait) {
  ThreadGroup group(2);
  const auto collective = group.Rank(0);
  std::vector<float> x(4);
  std::thread other([&] { group.Abort(); });

  EXPECT_EQ(collective->AllReduceSum(Tensor::Dense(x.data(), 1, 4)).code(),
            absl::StatusCode::kAborted);
  other.join();
}

TEST(SharedCollectiveTest, ProcessesMeetInSharedMemory) {
  const size_t bytes = SharedCollectiveBytes(2);
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  const auto work = [memory](int rank) {
    SharedCollective collective(memory, rank, 2, absl::Seconds(20));
    const std::vector<float> expected = SumInRankOrder(2, 5000);
    for (int i = 0; i < 50; ++i) {
      std::vector<float> x = Part(rank, 5000);
      if (!collective.AllReduceSum(Tensor::Dense(x.data(), 1, 5000)).ok() || x != expected)
        return false;
    }
    return true;
  };
  const pid_t child = fork();
  if (child == 0) _exit(work(1) ? 0 : 1);

  EXPECT_TRUE(work(0));

  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  munmap(memory, bytes);
}

}  // namespace
}  // namespace conclave::worker
