#include "worker/group/group_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <utility>

namespace conclave::worker {
namespace {

GroupMemory Make(const GroupMemoryOptions& options) {
  auto memory = GroupMemory::Create(options);
  EXPECT_TRUE(memory.ok()) << memory.status();
  return *std::move(memory);
}

TEST(GroupMemoryTest, ARankSeesWhatTheLauncherWrote) {
  GroupMemory launcher = Make({.tp = 2, .epoch = 7, .last_loss = "rank 1 died"});
  launcher.header().launcher_beat = 41;

  auto rank = GroupMemory::Attach(dup(launcher.fd()), 2, 7);

  ASSERT_TRUE(rank.ok()) << rank.status();
  EXPECT_EQ(rank->header().launcher_beat, 41u);
  EXPECT_EQ(rank->last_loss(), "rank 1 died");
  EXPECT_EQ(rank->epoch(), 7u);
}

TEST(GroupMemoryTest, TheLauncherSeesWhatARankWrote) {
  GroupMemory launcher = Make({.tp = 3, .epoch = 1});
  auto rank = GroupMemory::Attach(dup(launcher.fd()), 3, 1);
  ASSERT_TRUE(rank.ok()) << rank.status();

  rank->cell(2).beat = 5;
  rank->collective().back() = std::byte{9};

  EXPECT_EQ(launcher.cell(2).beat, 5u);
  EXPECT_EQ(launcher.cell(1).beat, 0u);
  EXPECT_EQ(launcher.collective().back(), std::byte{9});
}

TEST(GroupMemoryTest, PartsDoNotOverlap) {
  GroupMemory memory = Make({.tp = 64, .ring_bytes = 8192, .collective_bytes = 12'345});
  const auto* cells_end = reinterpret_cast<std::byte*>(&memory.cell(63) + 1);

  EXPECT_LE(reinterpret_cast<std::byte*>(&memory.header() + 1),
            reinterpret_cast<std::byte*>(&memory.cell(0)));
  EXPECT_LE(cells_end, memory.ring().data());
  EXPECT_LE(memory.ring().data() + memory.ring().size(), memory.collective().data());
  EXPECT_EQ(memory.ring().size(), 8192u);
  EXPECT_EQ(memory.collective().size(), 12'345u);
}

TEST(GroupMemoryTest, AnotherEpochOrSizeOfGroupIsRefused) {
  GroupMemory launcher = Make({.tp = 2, .epoch = 7});

  EXPECT_EQ(GroupMemory::Attach(dup(launcher.fd()), 2, 8).status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(GroupMemory::Attach(dup(launcher.fd()), 3, 7).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(GroupMemoryTest, AnotherVersionIsRefused) {
  GroupMemory launcher = Make({.tp = 2, .epoch = 7});
  launcher.header().version += 1;

  EXPECT_EQ(GroupMemory::Attach(dup(launcher.fd()), 2, 7).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(GroupMemoryTest, ADescriptorOfSomethingElseIsRefused) {
  const int empty = memfd_create("empty", 0);
  const int zeros = memfd_create("zeros", 0);
  ASSERT_EQ(ftruncate(zeros, 1 << 20), 0);

  EXPECT_FALSE(GroupMemory::Attach(empty, 2, 1).ok());
  EXPECT_FALSE(GroupMemory::Attach(zeros, 2, 1).ok());
  EXPECT_FALSE(GroupMemory::Attach(-1, 2, 1).ok());
}

TEST(GroupMemoryTest, ItsSizeIsSealed) {
  GroupMemory memory = Make({.tp = 2});

  EXPECT_NE(ftruncate(memory.fd(), 4096), 0);
  EXPECT_NE(ftruncate(memory.fd(), 1 << 30), 0);
}

TEST(GroupMemoryTest, SizesOutOfRangeAreRefused) {
  for (const GroupMemoryOptions& options :
       {GroupMemoryOptions{.tp = 0}, GroupMemoryOptions{.tp = 65},
        GroupMemoryOptions{.ring_bytes = 100}, GroupMemoryOptions{.ring_bytes = 4097},
        GroupMemoryOptions{.ring_bytes = size_t{2} << 30},
        GroupMemoryOptions{.collective_bytes = size_t{1} << 40}}) {
    EXPECT_EQ(GroupMemory::Create(options).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(GroupMemoryTest, ALongReasonIsCut) {
  GroupMemory memory = Make({.tp = 1, .last_loss = std::string(5000, 'x')});

  EXPECT_EQ(memory.last_loss().size(), 1023u);
}

}  // namespace
}  // namespace conclave::worker
