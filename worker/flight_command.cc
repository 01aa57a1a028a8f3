#include "worker/flight_command.h"

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
#include <memory>
#include <new>

#include "common/status.h"
#include "worker/group/patience.h"
#include "worker/launch/flight_replay.h"
#include "worker/launch/judge.h"
#include "worker/runner/local_runner.h"
#include "worker/runner_options.h"

namespace conclave::worker {
namespace {

constexpr int kFine = 0, kUnusable = 1, kFound = 3;

// Where the child is: shared with it, and left behind when it dies.
struct Place {
  std::atomic<uint64_t> step{0};  // 0: it loads the model.
  std::atomic<int64_t> patience_ns{0};
};

int Complain(const absl::Status& status) {
  std::cerr << "conclave-worker: " << MessageOf(status) << std::endl;
  return kUnusable;
}

absl::StatusOr<FlightReplay> Replay(const Flight& flight, const WorkerConfig& config,
                                    Place& place) {
  LocalRunnerOptions options;
  static_cast<RunnerOptions&>(options) = RunnerOptionsOf(config);
  options.tp = config.group.tensor_parallel;
  options.instruction_set = config.group.instruction_set;
  ASSIGN_OR_RETURN(const std::unique_ptr<LocalRunner> group, LocalRunner::Create(options));
  const auto step = [&group](const StepPlan& plan) -> absl::StatusOr<StepResult> {
    RETURN_IF_ERROR(group->Submit(plan));
    return group->Await();
  };
  return ReplayFlight(flight, group->shape(), step, [&](uint64_t number, absl::Duration patience) {
    place.patience_ns.store(absl::ToInt64Nanoseconds(patience));
    place.step.store(number);
  });
}

[[noreturn]] void RunChild(const Flight& flight, const WorkerConfig& config, Place& place) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const absl::StatusOr<FlightReplay> replay = Replay(flight, config, place);
  if (!replay.ok()) _exit(Complain(replay.status()));
  std::cout << DescribeReplay(*replay) << std::flush;
  _exit(replay->ok() ? kFine : kFound);
}

// Waits for the child; ends one whose step takes longer than the step's own deadline.
int Watch(pid_t child, const Place& place, const WorkerConfig& config) {
  uint64_t step = 0;
  Patience left(config.launcher.judge.ready);
  const absl::Duration turn = absl::Milliseconds(10);
  const timespec look = absl::ToTimespec(turn);
  int status = 0;
  while (waitpid(child, &status, WNOHANG) != child) {
    clock_nanosleep(CLOCK_MONOTONIC, 0, &look, nullptr);
    if (const uint64_t now = place.step.load(); now != step) {
      step = now;
      left = Patience(absl::Nanoseconds(place.patience_ns.load()));
    }
    left.Spend(turn, turn);
    if (!left.over()) continue;
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    if (step == 0) return Complain(DeadlineExceeded("the model was not loaded in time"));
    std::cout << fmt::format("step {} does not end within its deadline\n", step) << std::flush;
    return kFound;
  }
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  if (step = place.step.load(); step == 0) {
    return Complain(Aborted("loading the model ended by {}", SignalName(WTERMSIG(status))));
  }
  std::cout << fmt::format("step {} kills its rank: {}\n", step, SignalName(WTERMSIG(status)))
            << std::flush;
  return kFound;
}

}  // namespace

int ReplayFlightFile(const std::string& path, const WorkerConfig& config) {
  const absl::StatusOr<Flight> flight = ReadFlight(path);
  if (!flight.ok()) return Complain(flight.status());
  std::cout << DescribeFlight(*flight) << std::flush;
  void* page =
      mmap(nullptr, sizeof(Place), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return Complain(ResourceExhausted("no memory: {}", std::strerror(errno)));
  auto& place = *new (page) Place;
  const pid_t child = fork();
  if (child < 0) return Complain(ResourceExhausted("cannot fork: {}", std::strerror(errno)));
  if (child == 0) RunChild(*flight, config, place);
  return Watch(child, place, config);
}

}  // namespace conclave::worker
