#include "worker/launch/flight_watch.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <iostream>
#include <new>

#include "common/config.h"
#include "common/plain_text.h"
#include "common/status.h"
#include "worker/group/patience.h"
#include "worker/launch/flight_replay.h"
#include "worker/launch/judge.h"

namespace conclave::worker {
namespace {

// Where the child is: shared with it, and left behind when it dies.
struct Place {
  std::atomic<uint64_t> turn{0};  // 0: it makes the group. Else one more with each step.
  std::atomic<uint64_t> step{0};
  std::atomic<int64_t> patience_ns{0};
};

FlightEnd Complain(const absl::Status& status) {
  std::cerr << ComplaintText("conclave-worker", status) << std::flush;
  return FlightEnd::kUnusable;
}

FlightEnd Found(const std::string& what) {
  std::cout << what << std::endl;
  return FlightEnd::kFound;
}

FlightEnd Replay(const Flight& flight,
                 const std::function<absl::StatusOr<FlightGroup>()>& make_group, Place& place) {
  const absl::StatusOr<FlightGroup> group = make_group();
  if (!group.ok()) return Complain(group.status());
  const auto on_begin = [&place](uint64_t number, absl::Duration patience) {
    place.step.store(number);
    place.patience_ns.store(absl::ToInt64Nanoseconds(patience));
    place.turn.fetch_add(1);
  };
  const absl::StatusOr<FlightReplay> replay =
      ReplayFlight(flight, group->shape, group->step, on_begin);
  if (!replay.ok()) return Complain(replay.status());
  std::cout << PlainText(DescribeReplay(*replay)) << std::flush;
  if (!replay->ok()) return FlightEnd::kFound;
  return replay->compared > 0 ? FlightEnd::kEqual : FlightEnd::kNothing;
}

FlightEnd Watch(pid_t child, const Place& place, absl::Duration load_patience) {
  const absl::Duration look = absl::Milliseconds(10);
  const timespec pause = absl::ToTimespec(look);
  uint64_t turn = 0;
  Patience left(load_patience);
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    clock_nanosleep(CLOCK_MONOTONIC, 0, &pause, nullptr);
    if (const uint64_t now = place.turn.load(); now != turn) {
      turn = now;
      left = Patience(absl::Nanoseconds(place.patience_ns.load()));
    }
    left.Spend(look, look);
    if (!left.over()) continue;
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    if (turn == 0) return Complain(DeadlineExceeded("the model was not loaded in time"));
    return Found(fmt::format("step {} does not end within its deadline", place.step.load()));
  }
  if (WIFEXITED(status)) return static_cast<FlightEnd>(WEXITSTATUS(status));
  const std::string how = SignalName(WTERMSIG(status));
  if (place.turn.load() == 0) return Complain(Aborted("loading the model ended by {}", how));
  return Found(fmt::format("step {} kills its rank: {}", place.step.load(), how));
}

}  // namespace

FlightEnd WatchReplay(const Flight& flight,
                      const std::function<absl::StatusOr<FlightGroup>()>& make_group,
                      absl::Duration load_patience) {
  constexpr int kProtection = PROT_READ | PROT_WRITE, kFlags = MAP_SHARED | MAP_ANONYMOUS;
  void* page = mmap(nullptr, sizeof(Place), kProtection, kFlags, -1, 0);
  if (page == MAP_FAILED) return Complain(ResourceExhausted("no memory: {}", std::strerror(errno)));
  auto& place = *new (page) Place;
  std::cout << std::flush;
  const pid_t child = fork();
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    _exit(static_cast<int>(Replay(flight, make_group, place)));
  }
  const FlightEnd end = child < 0
                            ? Complain(ResourceExhausted("no child: {}", std::strerror(errno)))
                            : Watch(child, place, load_patience);
  munmap(page, sizeof(Place));
  return end;
}

}  // namespace conclave::worker
