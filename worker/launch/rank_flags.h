#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "worker/group/group_memory.h"

namespace conclave::worker {

// How the launcher tells a process that it is a rank: --rank=1 --tp=2 --memory-fd=3 --epoch=1
// --parent=4711.
struct RankFlags {
  int rank = 0;
  int tp = 1;
  int memory_fd = -1;
  uint64_t epoch = 0;
  int parent = 0;  // The launcher's pid.

  std::vector<std::string> ToArguments() const;
};

// Takes the flags of a rank out of a program's arguments and leaves the others, in order. nullopt:
// no --rank among them, so this process is the launcher. kInvalidArgument when one is missing,
// twice there, or not a number in range.
absl::StatusOr<std::optional<RankFlags>> TakeRankFlags(std::vector<std::string>& arguments);

// What a rank does before it starts a thread or opens a file of the model: from now on the process
// dies with its launcher, and if the launcher has gone already, kAborted. Maps the group's memory.
absl::StatusOr<GroupMemory> EnterRank(const RankFlags& flags);

}  // namespace conclave::worker
