#include "worker/collective/hosts_collective.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <thread>

#include "tests/unit/worker/collective/parts.h"
#include "worker/collective/shared_collective.h"

namespace conclave::worker {
namespace {

// Hosts of threads: `across[place]` and `local[host]` are what a network and a host's memory are.
struct Hosts {
  Hosts(int hosts, int places) {
    for (int p = 0; p < places; ++p) across.push_back(std::make_unique<ThreadGroup>(hosts));
    for (int h = 0; h < hosts; ++h) local.push_back(std::make_unique<ThreadGroup>(places));
  }
  int size() const { return static_cast<int>(across.size() * local.size()); }
  void OnEachRank(const std::function<void(Collective&)>& work) {
    const int places = static_cast<int>(across.size());
    OnThreads(size(), [&](int r) {
      const size_t host = static_cast<size_t>(r / places), place = static_cast<size_t>(r % places);
      HostsCollective collective(across[place]->Rank(r / places), local[host]->Rank(r % places));
      ASSERT_EQ(collective.rank(), r);
      ASSERT_EQ(collective.size(), size());
      work(collective);
    });
  }
  std::vector<std::unique_ptr<ThreadGroup>> across, local;
};

struct Shape {
  int hosts, places;
};
constexpr Shape kShapes[] = {{2, 1}, {1, 2}, {2, 2}, {3, 2}, {2, 4}};
constexpr size_t kCounts[] = {1, 3, 1000, 32'768, 32'769, 100'000};

TEST(HostsCollectiveTest, SumsInRankOrderForEveryShapeAndSize) {
  for (const auto& [hosts, places] : kShapes) {
    Hosts group(hosts, places);
    group.OnEachRank([&](Collective& collective) {
      for (const size_t count : kCounts) {
        std::vector<float> x = Part(collective.rank(), count);
        ASSERT_TRUE(
            collective.AllReduceSum(Tensor::Dense(x.data(), 1, static_cast<int64_t>(count))).ok());
        const std::vector<float> expected = SumInRankOrder(hosts * places, count);
        EXPECT_EQ(std::memcmp(x.data(), expected.data(), count * sizeof(float)), 0)
            << hosts << "x" << places << " " << count;
      }
    });
  }
}

TEST(HostsCollectiveTest, GathersPartsInRankOrder) {
  for (const auto& [hosts, places] : kShapes) {
    Hosts group(hosts, places);
    group.OnEachRank([&](Collective& collective) {
      for (const size_t count : kCounts) {
        const std::vector<float> part = Part(collective.rank(), count);
        std::vector<float> out(static_cast<size_t>(group.size()) * count);
        ASSERT_TRUE(
            collective.AllGather(part.data(), static_cast<int64_t>(count), out.data()).ok());
        EXPECT_EQ(out, AllParts(group.size(), count)) << hosts << "x" << places << " " << count;
      }
    });
  }
}

TEST(HostsCollectiveTest, AStridedTensorsOtherColumnsStayAsTheyAre) {
  Hosts group(2, 1);
  group.OnEachRank([](Collective& collective) {
    std::vector<float> x = {1, 2, 9, 3, 4, 9};
    ASSERT_TRUE(collective.AllReduceSum(Tensor{x.data(), DType::kF32, 2, 2, 3}).ok());
    EXPECT_EQ(x, (std::vector<float>{2, 4, 9, 6, 8, 9}));
  });
}

void ExpectEveryCallToFail(Collective& collective) {
  for (int call = 0; call < 2; ++call) {
    float x = 1;
    EXPECT_EQ(collective.AllReduceSum(Tensor::Dense(&x, 1, 1)).code(), absl::StatusCode::kAborted);
  }
}

TEST(HostsCollectiveTest, AFailureBetweenHostsLasts) {
  Hosts group(2, 2);
  group.across[1]->Abort();
  HostsCollective collective(group.across[1]->Rank(1), group.local[1]->Rank(1));

  ExpectEveryCallToFail(collective);
}

TEST(HostsCollectiveTest, AFailureWithinAHostLasts) {
  Hosts group(2, 2);
  group.local[1]->Abort();
  HostsCollective collective(group.across[1]->Rank(1), group.local[1]->Rank(1));
  std::thread other_host([&] {
    const auto across = group.across[1]->Rank(0);
    const std::vector<float> part(1);
    std::vector<float> column(2);
    for (int call = 0; call < 2; ++call) {
      EXPECT_TRUE(across->AllGather(part.data(), 1, column.data()).ok());
    }
  });

  ExpectEveryCallToFail(collective);

  other_host.join();
}

}  // namespace
}  // namespace conclave::worker
