#include "worker/launch/rank_flags.h"

#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <limits>
#include <string_view>
#include <utility>

#include "common/status.h"

namespace conclave::worker {
namespace {

constexpr std::string_view kRank = "--rank=", kTp = "--tp=", kMemory = "--memory-fd=",
                           kEpoch = "--epoch=", kParent = "--parent=";

struct Flag {
  std::string_view name;
  int64_t least, most;
  std::optional<int64_t> value = std::nullopt;
};

absl::StatusOr<int64_t> ParseNumber(const Flag& flag, std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < flag.least ||
      value > flag.most) {
    return InvalidArgument("{}{} is not a number from {} to {}", flag.name, text, flag.least,
                           flag.most);
  }
  return value;
}

}  // namespace

std::vector<std::string> RankFlags::ToArguments() const {
  return {fmt::format("{}{}", kRank, rank), fmt::format("{}{}", kTp, tp),
          fmt::format("{}{}", kMemory, memory_fd), fmt::format("{}{}", kEpoch, epoch),
          fmt::format("{}{}", kParent, parent)};
}

absl::StatusOr<std::optional<RankFlags>> TakeRankFlags(std::vector<std::string>& arguments) {
  constexpr int64_t kInt = std::numeric_limits<int>::max();
  constexpr int64_t kLong = std::numeric_limits<int64_t>::max();
  std::array<Flag, 5> flags{{{kRank, 0, kMaxRanks - 1},
                             {kTp, 1, kMaxRanks},
                             {kMemory, 0, kInt},
                             {kEpoch, 1, kLong},
                             {kParent, 1, kInt}}};
  std::vector<std::string> others;
  size_t found = 0;
  for (std::string& argument : arguments) {
    Flag* match = nullptr;
    for (Flag& flag : flags) {
      if (argument.starts_with(flag.name)) match = &flag;
    }
    if (match == nullptr) {
      others.push_back(std::move(argument));
      continue;
    }
    if (match->value.has_value()) return InvalidArgument("{} is given twice", match->name);
    const auto text = std::string_view(argument).substr(match->name.size());
    ASSIGN_OR_RETURN(match->value, ParseNumber(*match, text));
    ++found;
  }
  arguments = std::move(others);
  if (found == 0) return std::optional<RankFlags>();
  for (const Flag& flag : flags) {
    if (!flag.value.has_value()) return InvalidArgument("{} is missing", flag.name);
  }
  if (*flags[0].value >= *flags[1].value) {
    return InvalidArgument("rank {} of {} ranks", *flags[0].value, *flags[1].value);
  }
  return std::optional<RankFlags>({.rank = static_cast<int>(*flags[0].value),
                                   .tp = static_cast<int>(*flags[1].value),
                                   .memory_fd = static_cast<int>(*flags[2].value),
                                   .epoch = static_cast<uint64_t>(*flags[3].value),
                                   .parent = static_cast<int>(*flags[4].value)});
}

absl::Status BindToLauncher(const RankFlags& flags) {
  // In this order: a launcher that dies after the first line takes this process with it, one that
  // died before is noticed by the second.
  if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) {
    return FailedPrecondition("cannot be told of the launcher's death");
  }
  if (getppid() != flags.parent) {
    return Aborted("launcher {} has gone; the parent is {}", flags.parent, getppid());
  }
  return absl::OkStatus();
}

}  // namespace conclave::worker
