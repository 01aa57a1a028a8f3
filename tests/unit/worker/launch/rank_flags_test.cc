#include "worker/launch/rank_flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/prctl.h>

#include <string>
#include <vector>

namespace conclave::worker {
namespace {

using ::testing::ElementsAre;

TEST(RankFlagsTest, WhatTheLauncherWritesARankReads) {
  const RankFlags sent{.rank = 1, .tp = 2, .memory_fd = 5, .epoch = 9, .parent = 4711};
  std::vector<std::string> arguments = sent.ToArguments();
  arguments.insert(arguments.begin() + 2, "--config=worker.yaml");
  arguments.push_back("--rankle");

  auto flags = TakeRankFlags(arguments);

  ASSERT_TRUE(flags.ok()) << flags.status();
  ASSERT_TRUE(flags->has_value());
  EXPECT_EQ((*flags)->rank, 1);
  EXPECT_EQ((*flags)->tp, 2);
  EXPECT_EQ((*flags)->memory_fd, 5);
  EXPECT_EQ((*flags)->epoch, 9u);
  EXPECT_EQ((*flags)->parent, 4711);
  EXPECT_THAT(arguments, ElementsAre("--config=worker.yaml", "--rankle"));
}

TEST(RankFlagsTest, WithoutThemTheProcessIsALauncher) {
  std::vector<std::string> arguments = {"--config=worker.yaml"};

  auto flags = TakeRankFlags(arguments);

  ASSERT_TRUE(flags.ok());
  EXPECT_FALSE(flags->has_value());
  EXPECT_THAT(arguments, ElementsAre("--config=worker.yaml"));
}

TEST(RankFlagsTest, AMissingDoubledOrSenselessFlagIsRefused) {
  const std::vector<std::string> good =
      RankFlags{.rank = 1, .tp = 2, .memory_fd = 5, .epoch = 9, .parent = 4711}.ToArguments();
  std::vector<std::vector<std::string>> bad(5, good);
  bad[0].pop_back();
  bad[1].push_back("--tp=2");
  bad[2][0] = "--rank=2";
  bad[3][1] = "--tp=two";
  bad[4][2] = "--memory-fd=";

  for (std::vector<std::string>& arguments : bad) {
    EXPECT_EQ(TakeRankFlags(arguments).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

TEST(BindToLauncherTest, RefusesWhenTheLauncherHasGone) {
  const RankFlags flags{.rank = 0, .tp = 1, .memory_fd = 0, .epoch = 1, .parent = 0x7ffffff0};

  EXPECT_EQ(BindToLauncher(flags).code(), absl::StatusCode::kAborted);

  prctl(PR_SET_PDEATHSIG, 0);  // Undoes what the call above asked for this process.
}

}  // namespace
}  // namespace conclave::worker
