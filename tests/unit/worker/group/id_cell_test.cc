#include "worker/group/id_cell.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker/group/group_memory.h"

namespace conclave::worker {
namespace {

TEST(IdCellTest, WhatOneProcessPutsAnotherGets) {
  const auto memory = GroupMemory::Create({.tp = 2});
  ASSERT_TRUE(memory.ok()) << memory.status();
  IdCell& cell = memory->header().collective_id;
  const std::string id("a\0name", 6);
  const pid_t child = fork();
  if (child == 0) {
    usleep(20'000);
    cell.Put(id);
    _exit(0);
  }

  const auto got = cell.Await(absl::Seconds(20));

  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(*got, id);
  EXPECT_EQ(*cell.Await(absl::ZeroDuration()), id);
  waitpid(child, nullptr, 0);
}

TEST(IdCellTest, ANameThatNeverComesIsWaitedForAsLongAsAllowed) {
  IdCell cell;

  EXPECT_EQ(cell.Await(absl::Milliseconds(20)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

}  // namespace
}  // namespace conclave::worker
