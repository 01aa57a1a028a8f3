// A rank, or a whole launcher, that does as it is told. The tests' stand-in for the worker.
//   --mode=run|exit|refuse|mute|hang|stall|count|serve   what the rank named by --rank-at-fault
//   does,
//   --rank-at-fault=R --until-epoch=E        in epochs up to E; the others run.
//   --meet=yes                               ranks are ready when they know each other's addresses.
//   --launcher-patience=D                    how long a launcher may be silent.
// Without the flags of a rank it is a launcher of two such ranks.
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "worker/group/beat.h"
#include "worker/group/shm_channel.h"
#include "worker/launch/launcher.h"
#include "worker/launch/rank_flags.h"

namespace conclave::worker {
namespace {

std::string Flag(const std::vector<std::string>& arguments, const std::string& name,
                 const std::string& otherwise) {
  for (const std::string& each : arguments) {
    if (each.starts_with(name + "=")) return each.substr(name.size() + 1);
  }
  return otherwise;
}

// Runs until SIGTERM, as a rank without work does.
int Serve(RankCell& cell, bool turning) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  const timespec turn{.tv_sec = 0, .tv_nsec = 5'000'000};
  while (true) {
    const int signal = sigtimedwait(&signals, nullptr, &turn);
    if (signal == SIGTERM) return 0;
    if (turning) cell.engine_turns.fetch_add(1);
  }
}

// Descriptors that this process was born with, as text.
std::string OpenDescriptors() {
  std::vector<int> found;
  for (int fd = 0; fd < 1024; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0) found.push_back(fd);
  }
  return fmt::format("descriptors {}", fmt::join(found, " "));
}

// Tells the own address, and waits for all.
bool Meet(GroupMemory& memory, int own) {
  const auto address = [](int rank) { return fmt::format("rank {} is here", rank); };
  memory.cell(own).address.Put(address(own));
  for (int rank = 0; rank < memory.tp(); ++rank) {
    const auto told = memory.cell(rank).address.Await(absl::Seconds(60));
    if (!told.ok() || *told != address(rank)) return false;
  }
  return true;
}

int RunRank(const RankFlags& flags, const std::vector<std::string>& arguments) {
  if (!BindToLauncher(flags).ok()) return 3;
  const std::string descriptors = OpenDescriptors();
  absl::StatusOr<GroupMemory> memory = EnterRank(flags);
  if (!memory.ok()) return 3;
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  RankCell& cell = memory->cell(flags.rank);
  const bool at_fault = std::to_string(flags.rank) == Flag(arguments, "--rank-at-fault", "") &&
                        std::to_string(flags.epoch) <= Flag(arguments, "--until-epoch", "1");
  const std::string mode = at_fault ? Flag(arguments, "--mode", "run") : "run";
  if (mode == "refuse") {
    SayLastWords(cell, "the config is wrong");
    return 1;
  }
  if (mode == "count") {
    SayLastWords(cell, descriptors);
    return 1;
  }
  if (mode == "mute") {
    cell.beat = 1;
    cell.ready = 1;
    return Serve(cell, false);
  }
  absl::Duration patience = absl::Seconds(10);
  if (!absl::ParseDuration(Flag(arguments, "--launcher-patience", "10s"), &patience)) return 2;
  const auto on_lost = [&cell] {
    SayLastWords(cell, "the launcher was silent");
    _exit(kLauncherSilentExit);
  };
  Beat beat(cell, memory->header().launcher_beat, on_lost,
            {.interval = absl::Milliseconds(10), .lost_after = patience});
  if (flags.rank == 0) {
    ShmLeaderChannel channel(*memory);
    const std::string plan = "plan of epoch " + std::to_string(flags.epoch);
    if (!channel.Send(1, plan, absl::Seconds(10)).ok()) return 5;
  }
  if (Flag(arguments, "--meet", "no") == "yes" && !Meet(*memory, flags.rank)) return 6;
  if (mode == "serve") cell.serving = 1;
  cell.ready = 1;
  if (mode == "exit") {
    // Not before the group is ready: a start that fails is another story.
    for (int rank = 0; rank < memory->tp(); ++rank) {
      while (memory->cell(rank).ready == 0) absl::SleepFor(absl::Milliseconds(1));
    }
    return 7;
  }
  if (mode == "hang") BeginStep(cell, 1, absl::Milliseconds(100));
  if (mode == "stall") cell.engine_turns = 1;
  return Serve(cell, mode == "run" && flags.rank == 0);
}

int RunAsLauncher(const std::vector<std::string>& arguments) {
  LauncherOptions options;
  options.rank_arguments = arguments;
  options.tick = absl::Milliseconds(20);
  options.judge.beat = absl::Seconds(5);
  options.first_backoff = absl::Milliseconds(20);
  options.log = [](std::string_view line) {
    std::printf("%.*s\n", static_cast<int>(line.size()), line.data());
    std::fflush(stdout);
  };
  if (!BlockLauncherSignals().ok()) return 1;
  const absl::Status end = RunLauncher(std::move(options));
  return end.ok() ? 0 : 1;
}

int Main(std::vector<std::string> arguments) {
  const auto flags = TakeRankFlags(arguments);
  if (!flags.ok()) return 2;
  return flags->has_value() ? RunRank(**flags, arguments) : RunAsLauncher(arguments);
}

}  // namespace
}  // namespace conclave::worker

int main(int argc, char** argv) {
  return conclave::worker::Main(std::vector<std::string>(argv + 1, argv + argc));
}
