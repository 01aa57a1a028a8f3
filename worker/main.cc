#include <absl/time/time.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/config.h"
#include "common/log.h"
#include "common/status.h"
#include "worker/backend/cuda_loader.h"
#include "worker/collective/shared_collective.h"
#include "worker/flight_command.h"
#include "worker/group/beat.h"
#include "worker/group/follower.h"
#include "worker/group/group_runner.h"
#include "worker/group/shm_channel.h"
#include "worker/launch/flight_file.h"
#include "worker/launch/launcher.h"
#include "worker/launch/rank_flags.h"
#include "worker/leader.h"
#include "worker/reserved_port.h"
#include "worker/runner/device_choice.h"
#include "worker/runner/model_runner.h"
#include "worker/runner_options.h"
#include "worker/worker_config.h"

namespace conclave::worker {
namespace {

// A peer that is gone is noticed by the launcher; this only bounds a wait that nobody would end.
constexpr absl::Duration kCollectivePatience = absl::Minutes(10);

constexpr char kAbout[] =
    "One group of tensor-parallel ranks that serves one copy of a model to routers.\n"
    "\n"
    "  conclave-worker --config configs/worker.yaml\n"
    "  conclave-worker --set model.directory=models/my-model --set group.tensor_parallel=4\n"
    "\n"
    "`conclave check FILE` says whether a config is right. The ranks are processes of their own; "
    "when\n"
    "one is lost, all are started anew. SIGTERM drains: families that run may end, for at most\n"
    "drain_timeout.\n";

constexpr char kExitCodeText[] =
    "Exit codes:\n"
    "  0  drained after SIGTERM or SIGINT; --replay-flight: every step that ran is as it was\n"
    "  1  it could not serve: an address in use, a model that does not load, ranks lost too often\n"
    "  2  the command line or the config is wrong\n"
    "  3  --replay-flight: a step differs, fails, kills its rank or never ends";

int Complain(const absl::Status& status, int exit_code = 1) {
  std::cerr << ComplaintText("conclave-worker", status);
  return exit_code;
}

std::unique_ptr<Collective> JoinRanks(GroupMemory& memory, int rank) {
  if (memory.tp() == 1) return std::make_unique<SoloCollective>();
  return std::make_unique<SharedCollective>(memory.collective().data(), rank, memory.tp(),
                                            kCollectivePatience);
}

// What sums where the ranks' partial sums are; `host` joins the same ranks. Null: `host` itself
// does.
absl::StatusOr<std::unique_ptr<Collective>> JoinDevices(GroupMemory& memory, int rank,
                                                        const ChosenDevice& chosen,
                                                        Collective& host) {
  if (chosen.cuda == nullptr || memory.tp() == 1) return nullptr;
  IdCell& cell = memory.header().collective_id;
  if (rank == 0) {
    ASSIGN_OR_RETURN(const std::string made, chosen.cuda->MakeCollectiveId(memory.tp()));
    cell.Put(made);
  }
  ASSIGN_OR_RETURN(const std::string id, cell.Await(kCollectivePatience));
  return chosen.cuda->MakeCollective(*chosen.device, rank, memory.tp(), id, host);
}

// What steps cost here: measured on all ranks at once, before the first plan. Never less than what
// a busy machine adds to a small model's step.
absl::StatusOr<StepCost> MeasureStepCost(ModelRunner& runner) {
  constexpr int kRows = 64;
  ASSIGN_OR_RETURN(const absl::Duration one, runner.MeasureStep(1));
  ASSIGN_OR_RETURN(const absl::Duration many, runner.MeasureStep(kRows));
  StepCost cost;
  cost.step = std::max(one, absl::Milliseconds(1));
  cost.row = std::max(many / kRows, absl::Microseconds(50));
  return cost;
}

// One rank's life. Returns when the group ends in order; any other end is an error.
absl::Status RunRank(const RankFlags& flags, const WorkerConfig& config, const Logger& log) {
  ASSIGN_OR_RETURN(GroupMemory memory, EnterRank(flags));
  RankCell& cell = memory.cell(flags.rank);
  const Beat beat(cell, memory.header().launcher_beat, [&cell, &log] {
    SayLastWords(cell, "the launcher was silent for 10s");
    log.Error("the launcher is silent: this rank ends");
    _exit(kLauncherSilentExit);
  });
  // The launcher passes on why a rank could not start.
  const auto or_last_words = [&cell](absl::Status status) {
    if (!status.ok()) SayLastWords(cell, MessageOf(status));
    return status;
  };
  const auto chosen = ChooseDevice(DeviceOptionsOf(config, flags.rank), DefaultCudaPlaces());
  RETURN_IF_ERROR(or_last_words(chosen.status()));
  if (flags.rank == 0 && !chosen->why_no_cuda.empty()) {
    log.Info("no CUDA device: using the CPU", {{"why", chosen->why_no_cuda}});
  }
  Device& device = *chosen->device;
  const auto host = JoinRanks(memory, flags.rank);
  const auto joined = JoinDevices(memory, flags.rank, *chosen, *host);
  RETURN_IF_ERROR(or_last_words(joined.status()));
  Collective& collective = *joined ? **joined : *host;
  auto runner = ModelRunner::Create(RunnerOptionsOf(config), device, collective);
  RETURN_IF_ERROR(or_last_words(runner.status()));
  log.Info("loaded", {{"rank", flags.rank},
                      {"model", config.model.directory},
                      {"backend", device.name()},
                      {"threads", config.group.threads}});
  ModelRunner& mine = **runner;
  PutText(IdentityOf(mine.shape()), cell.identity);
  const absl::StatusOr<StepCost> cost = MeasureStepCost(mine);
  RETURN_IF_ERROR(or_last_words(cost.status()));
  absl::Status end;
  if (flags.rank == 0) {
    ShmLeaderChannel channel(memory);
    GroupRunner group(mine.shape(), mine, channel, cell, *cost);
    end = Lead({config, memory, beat, group, mine.model().parameters(), log});
  } else {
    ShmFollowerChannel channel(memory, flags.rank);
    end = Follow(channel, mine, cell);
    if (end.code() == absl::StatusCode::kCancelled) end = absl::OkStatus();  // The leader is done.
  }
  // What runs on a device may never end, and to free its memory is to wait for it.
  if (!end.ok()) _exit(Complain(or_last_words(end)));
  return end;
}

// Ports that the system chose must outlive the ranks: they are taken here and told to each leader.
absl::Status KeepPort(const std::string& key, const std::string& address,
                      std::vector<ReservedPort>& kept, std::vector<std::string>& arguments) {
  ASSIGN_OR_RETURN(ReservedPort port, ReservedPort::Take(address));
  arguments.push_back("--set");
  arguments.push_back(key + "=" + port.address());
  kept.push_back(std::move(port));
  return absl::OkStatus();
}

absl::Status Launch(const WorkerConfig& config, std::vector<std::string> arguments,
                    const Logger& log) {
  std::vector<ReservedPort> kept;
  RETURN_IF_ERROR(KeepPort("server.listen", config.server.listen, kept, arguments));
  RETURN_IF_ERROR(KeepPort("health.listen", config.health_listen, kept, arguments));
  LauncherOptions options;
  options.tp = config.group.tensor_parallel;
  options.rank_arguments = std::move(arguments);
  options.collective_bytes = SharedCollectiveBytes(options.tp);
  options.judge = config.launcher.judge;
  options.drain_timeout = config.drain_timeout + absl::Seconds(5);
  options.max_restarts = config.launcher.max_restarts;
  options.restart_window = config.launcher.restart_window;
  options.first_backoff = config.launcher.first_backoff;
  options.max_backoff = config.launcher.max_backoff;
  options.ring_bytes = static_cast<size_t>(config.launcher.flight_ring.bytes) / 64 * 64;
  options.flight_directory = config.launcher.flight_directory;
  options.max_flight_files = config.launcher.max_flight_files;
  options.log = [&log](std::string_view line) { log.Info(line); };
  return RunLauncher(std::move(options));
}

// Every thread leaves these to the one that waits for them.
void BlockStopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int each : {SIGTERM, SIGINT}) sigaddset(&signals, each);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

int Main(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  const auto flags = TakeRankFlags(arguments);
  if (!flags.ok()) return Complain(flags.status(), 2);
  if (flags->has_value()) {
    const absl::Status bound = BindToLauncher(**flags);
    if (!bound.ok()) return Complain(bound);
  }
  CLI::App app{kAbout, "conclave-worker"};
  std::string path;
  std::vector<std::string> overrides;
  app.set_version_flag("--version", CONCLAVE_VERSION);
  app.add_option("--config", path,
                 "A YAML file; configs/worker.yaml says what each key means. Without it every key "
                 "has the default that stands there")
      ->type_name("FILE");
  app.add_option("--set", overrides, "Overrides one key: group.tensor_parallel=4")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  std::string flight;
  app.add_option("--replay-flight", flight,
                 "Says what a lost group did last, runs it again and compares every step's hash; "
                 "FILE is one of launcher.flight_directory")
      ->type_name("FILE");
  app.footer(kExitCodeText);
  try {
    std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
    app.parse(reversed);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  // The launcher has looked at the files before it started a rank.
  const NamedFiles files = flags->has_value() ? NamedFiles::kIgnore : NamedFiles::kCheck;
  const auto config = LoadWorkerConfig(path, overrides, files);
  if (!config.ok()) return Complain(config.status(), 2);
  if (!flight.empty()) return ReplayFlightFile(flight, *config);
  const Logger log(config->log);
  if (flags->has_value()) BlockStopSignals();
  const absl::Status end =
      flags->has_value() ? RunRank(**flags, *config, log) : Launch(*config, arguments, log);
  return end.ok() ? 0 : Complain(end);
}

}  // namespace
}  // namespace conclave::worker

int main(int argc, char** argv) { return conclave::worker::Main(argc, argv); }
