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

// The first thing that a rank does in main: from now on the process dies with its launcher, and if
// the launcher has gone already, kAborted.
absl::Status BindToLauncher(const RankFlags& flags);

// Maps the group's memory.
inline absl::StatusOr<GroupMemory> EnterRank(const RankFlags& flags) {
  return GroupMemory::Attach(flags.memory_fd, flags.tp, flags.epoch);
}

// The exit code of a rank whose launcher was silent for too long: told apart from a rank that
// cannot work (EX_TEMPFAIL).
inline constexpr int kLauncherSilentExit = 75;
// Of a rank of several hosts that lost another one: rather not the cause (EX_UNAVAILABLE).
inline constexpr int kPeerLostExit = 69;

// With what a rank ends that cannot go on. `elsewhere`: some of its peers are on other hosts.
inline int RankExitCode(const absl::Status& why, bool elsewhere) {
  const bool peer =
      absl::IsUnavailable(why) || absl::IsDeadlineExceeded(why) || absl::IsAborted(why);
  return elsewhere && peer ? kPeerLostExit : 1;
}

}  // namespace conclave::worker
