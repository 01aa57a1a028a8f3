#include "tests/unit/worker/collective/nccl/rank_processes.h"

#include <absl/time/clock.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <new>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "worker/collective/nccl/nccl_api.h"
#include "worker/collective/nccl/nccl_collective.h"
#include "worker/collective/shared_collective.h"

namespace conclave::worker {
namespace {

// Forks, runs work in the child, and gives the reading end of what it says. The child never
// returns.
pid_t Fork(const std::function<std::string()>& work, int& words) {
  int ends[2];
  CHECK(pipe(ends) == 0);
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    close(ends[0]);
    const std::string text = work();
    const bool told = write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
    _exit(told && text.empty() ? 0 : 1);
  }
  close(ends[1]);
  words = ends[0];
  return pid;
}

std::string ReadAll(int fd) {
  std::string text;
  char buffer[4096];
  pollfd ready = {fd, POLLIN, 0};
  while (poll(&ready, 1, 0) > 0) {
    const ssize_t count = read(fd, buffer, sizeof(buffer));
    if (count <= 0) break;
    text.append(buffer, static_cast<size_t>(count));
  }
  return text;
}

std::string HowItEnded(int status, const std::string& words) {
  if (WIFSIGNALED(status)) return fmt::format("killed by signal {} {}", WTERMSIG(status), words);
  if (!words.empty()) return words;
  return WEXITSTATUS(status) == 0 ? "" : fmt::format("exited with {}", WEXITSTATUS(status));
}

}  // namespace

RankProcesses::RankProcesses(int size, const Work& work) {
  CHECK(size <= kMostRanks && SharedCollectiveBytes(size) <= sizeof(Meeting::collective));
  void* memory =
      mmap(nullptr, sizeof(Meeting), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED);
  meeting_ = new (memory) Meeting;
  ranks_.resize(static_cast<size_t>(size));
  for (int r = 0; r < size; ++r) {
    Rank& rank = ranks_[static_cast<size_t>(r)];
    rank.pid = Fork(
        [&] {
          const absl::Status status = work(r, *meeting_);
          return status.ok() ? std::string() : status.ToString();
        },
        rank.words);
  }
}

RankProcesses::~RankProcesses() {
  for (size_t r = 0; r < ranks_.size(); ++r) {
    if (!Exit(static_cast<int>(r)).has_value()) {
      Kill(static_cast<int>(r));
      waitpid(ranks_[r].pid, nullptr, 0);
    }
    close(ranks_[r].words);
  }
  munmap(meeting_, sizeof(Meeting));
}

std::optional<int> RankProcesses::Exit(int rank) {
  Rank& each = ranks_[static_cast<size_t>(rank)];
  int status = 0;
  if (!each.exit.has_value() && waitpid(each.pid, &status, WNOHANG) == each.pid) {
    each.exit = status;
  }
  return each.exit;
}

void RankProcesses::Kill(int rank) { kill(ranks_[static_cast<size_t>(rank)].pid, SIGKILL); }

std::vector<std::string> RankProcesses::Complaints(absl::Duration limit) {
  const absl::Time end = absl::Now() + limit;
  std::vector<std::string> complaints;
  for (int r = 0; r < static_cast<int>(ranks_.size()); ++r) {
    bool late = false;
    while (!Exit(r).has_value()) {
      absl::SleepFor(absl::Milliseconds(10));
      if (absl::Now() < end) continue;
      late = true;
      Kill(r);
    }
    const Rank& rank = ranks_[static_cast<size_t>(r)];
    std::string text = HowItEnded(*rank.exit, ReadAll(rank.words));
    if (late) text += fmt::format("(took longer than {})", absl::FormatDuration(limit));
    complaints.push_back(std::move(text));
  }
  return complaints;
}

int DeviceOfRank(int rank) {
  int devices = 0;
  CHECK(cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0);
  return rank % devices;
}

absl::StatusOr<JoinedRank> JoinedRank::Join(int rank, int size, Meeting& meeting,
                                            const Manner& manner) {
  NcclOptions options;
  options.rank = rank, options.size = size;
  options.patience = manner.patience;
  options.trial_patience = manner.trial_patience;
  options.peers = manner.peers;
  options.device = DeviceOfRank(rank);
  options.device_is_shared = DeviceOfRank(size - 1) != size - 1;
  JoinedRank joined;
  joined.stream = manner.stream;
  if (cudaSetDevice(options.device) != cudaSuccess ||
      (manner.stream == nullptr &&
       cudaStreamCreateWithFlags(&joined.stream, cudaStreamNonBlocking) != cudaSuccess)) {
    return Internal("no stream: {}", cudaGetErrorString(cudaGetLastError()));
  }
  options.stream = joined.stream;
  if (rank == 0) {
    ASSIGN_OR_RETURN(options.id, NcclId(options));
    meeting.id.Put(options.id);
  } else {
    ASSIGN_OR_RETURN(options.id, meeting.id.Await(absl::Seconds(20)));
  }
  joined.host =
      std::make_unique<SharedCollective>(meeting.collective, rank, size, absl::Seconds(20));
  ASSIGN_OR_RETURN(joined.collective, JoinNccl(options, *joined.host));
  return joined;
}

std::string WhyNoRanks() {
  int words = -1;
  const pid_t pid = Fork(
      [] {
        int devices = 0;
        const cudaError_t error = cudaGetDeviceCount(&devices);
        if (error != cudaSuccess || devices == 0) {
          return fmt::format("no CUDA device: {}", cudaGetErrorString(error));
        }
        const auto nccl = LoadNccl();
        return nccl.ok() ? std::string() : std::string(MessageOf(nccl.status()));
      },
      words);
  int status = 0;
  waitpid(pid, &status, 0);
  std::string why = HowItEnded(status, ReadAll(words));
  close(words);
  return why;
}

}  // namespace conclave::worker
