#include "worker/launch/host_ranks.h"

#include <signal.h>
#include <unistd.h>

#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "worker/launch/rank_flags.h"

namespace conclave::worker {

absl::StatusOr<HostRanks> HostRanks::Begin(const RankOptions& options, const EpochName& epoch,
                                           const std::string& last_loss, int64_t losses) {
  CHECK(options.place.hosts >= 1 && options.tp % options.place.hosts == 0);
  ASSIGN_OR_RETURN(GroupMemory memory,
                   GroupMemory::Create({.tp = options.tp,
                                        .epoch = epoch.number,
                                        .nonce = epoch.nonce,
                                        .ring_bytes = options.ring_bytes,
                                        .collective_bytes = options.collective_bytes,
                                        .last_loss = last_loss,
                                        .losses = losses}));
  HostRanks made(std::move(memory), epoch, options.place.first_rank(options.tp));
  for (int i = 0; i < options.place.ranks_of_each(options.tp); ++i) {
    const RankFlags flags{.rank = made.first_ + i,
                          .tp = options.tp,
                          .memory_fd = Process::kInheritedFd,
                          .epoch = epoch.number,
                          .parent = getpid()};
    std::vector<std::string> arguments = flags.ToArguments();
    arguments.insert(arguments.end(), options.rank_arguments.begin(), options.rank_arguments.end());
    ASSIGN_OR_RETURN(Process process,
                     Process::Spawn(options.program, arguments, made.memory_.fd()));
    made.ranks_.push_back(std::move(process));
  }
  return made;
}

HostRanks::~HostRanks() { Kill({}); }

std::vector<int> HostRanks::pids() const {
  std::vector<int> pids;
  for (const Process& rank : ranks_) pids.push_back(rank.pid());
  return pids;
}

std::vector<RankSight> HostRanks::Look() {
  std::vector<RankSight> sights;
  for (int i = 0; i < static_cast<int>(ranks_.size()); ++i) {
    Process& process = ranks_[static_cast<size_t>(i)];
    const RankCell& cell = memory_.cell(first_ + i);
    RankSight sight = LookAt(cell);
    sight.pid = process.pid();
    sight.exit = process.Exit();
    sight.stopped = process.stopped();
    if (sight.exit.has_value()) sight.last_words = TextOf(cell.last_words);
    sights.push_back(std::move(sight));
  }
  return sights;
}

// All are told before the first is waited for: ranks that share a collective may wait for another.
void HostRanks::Kill(const std::function<void(std::string_view line)>& log) {
  for (Process& rank : ranks_) rank.Signal(SIGKILL);
  for (size_t i = 0; i < ranks_.size(); ++i) {
    Process& process = ranks_[i];
    process.Reap(absl::Seconds(5), [&] {
      if (!log) return;
      log(fmt::format(
          "rank {} (pid {}) was sent signal 9 and has not ended: it hangs in the kernel",
          first_ + static_cast<int>(i), process.pid()));
    });
  }
  ranks_.clear();
}

std::vector<RankReport> ReportRanks(HostRanks& ranks) {
  std::vector<RankReport> reports;
  for (RankSight& sight : ranks.Look()) {
    const RankCell& cell = ranks.memory().cell(ranks.first() + static_cast<int>(reports.size()));
    RankReport report;
    report.identity = TextOf(cell.identity);
    if (!sight.ready) report.address = cell.address.Get();
    report.sight = std::move(sight);
    reports.push_back(std::move(report));
  }
  return reports;
}

// In the order of BeginStep and EndStep, for whoever looks on.
void Mirror(const RankReport& report, RankCell& cell) {
  const RankSight& sight = report.sight;
  if (cell.address.Get().empty() && !report.address.empty()) cell.address.Put(report.address);
  PutText(report.identity, cell.identity);
  PutText(sight.last_words, cell.last_words);
  cell.beat.store(sight.beat, std::memory_order_release);
  if (sight.step_begun != cell.step_begun.load(std::memory_order_relaxed)) {
    BeginStep(cell, sight.step_begun, sight.step_patience);
  }
  cell.step_done.store(sight.step_done, std::memory_order_release);
  cell.ready.store(sight.ready ? 1 : 0, std::memory_order_release);
}

}  // namespace conclave::worker
