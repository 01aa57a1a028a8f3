#include <signal.h>

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "common/config.h"
#include "common/log.h"
#include "common/status.h"
#include "worker/flight_command.h"
#include "worker/launch/host_place.h"
#include "worker/launch/rank_flags.h"
#include "worker/launch_host.h"
#include "worker/rank.h"
#include "worker/worker_config.h"

namespace conclave::worker {
namespace {

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
    "  0  drained after SIGTERM or SIGINT; --replay-flight: every step compared is as it was\n"
    "  1  it could not serve: an address in use, a model that does not load, ranks lost too often\n"
    "  2  the command line or the config is wrong\n"
    "  3  --replay-flight: a step differs, fails, kills its rank or never ends\n"
    "  4  --replay-flight: every step ran, and none could be compared";

int Complain(const absl::Status& status, int exit_code = 1) {
  std::cerr << ComplaintText("conclave-worker", status);
  return exit_code;
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
  const auto place = FindPlace(config->group.hosts, config->group.tensor_parallel, std::getenv);
  if (!place.ok()) return Complain(place.status(), 2);
  const Logger log(config->log);
  if (!flags->has_value()) {
    const absl::Status end = LaunchHost(*config, *place, arguments, log);
    return end.ok() ? 0 : Complain(end);
  }
  BlockStopSignals();
  const absl::Status end = RunRank(**flags, *config, *place, log);
  return end.ok() ? 0 : Complain(end, RankExitCode(end, place->hosts > 1));
}

}  // namespace
}  // namespace conclave::worker

int main(int argc, char** argv) { return conclave::worker::Main(argc, argv); }
