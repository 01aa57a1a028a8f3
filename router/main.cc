#include <absl/time/clock.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/config.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/status.h"
#include "common/timer_thread.h"
#include "router/admission/admission.h"
#include "router/admission/keys.h"
#include "router/api/conclave_service.h"
#include "router/api/task_pool.h"
#include "router/fleet/discovery.h"
#include "router/fleet/fleet.h"
#include "router/fleet/grpc_worker_client.h"
#include "router/fleet/resolver.h"
#include "router/router_config.h"
#include "router/router_server.h"

namespace conclave::router {
namespace {

sigset_t StopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int each : {SIGTERM, SIGINT}) sigaddset(&signals, each);
  return signals;
}

// True when a stop signal came within `timeout`.
bool AwaitStop(absl::Duration timeout) {
  const sigset_t signals = StopSignals();
  const timespec wait = absl::ToTimespec(timeout);
  return sigtimedwait(&signals, nullptr, &wait) > 0;
}

// A reader never sees half of it.
absl::Status WritePorts(const std::string& path, int server, int health, int metrics) {
  if (path.empty()) return absl::OkStatus();
  const std::string draft = fmt::format("{}.{}", path, getpid());
  std::ofstream file(draft);
  file << fmt::format("server={}\nhealth={}\nmetrics={}\n", server, health, metrics);
  file.close();
  if (!file || std::rename(draft.c_str(), path.c_str()) != 0)
    return Unavailable("cannot write {}", path);
  return absl::OkStatus();
}

// What makes the clients of the groups. `timers` must outlive them.
absl::StatusOr<Fleet::MakeClient> ClientMaker(const RouterConfig& config, TimerThread& timers) {
  ASSIGN_OR_RETURN(const auto credentials, MakeChannelCredentials(config.worker_tls));
  const std::string name = config.workers_dns.substr(0, config.workers_dns.rfind(':'));
  const std::set<std::string> listed(config.workers.begin(), config.workers.end());
  return [credentials, name, listed, &timers](const std::string& address) {
    WorkerChannelOptions options;
    if (!listed.contains(address)) options.authority = name;  // Certificates name no addresses.
    return std::make_unique<GrpcWorkerClient>(MakeWorkerChannel(address, credentials, options),
                                              timers, options.backoff);
  };
}

// Ready while a group is.
bool AnyGroupReady(const Fleet& fleet) {
  for (const GroupView& group : fleet.View()) {
    if (group.ready()) return true;
  }
  return false;
}

absl::Status Serve(const RouterConfig& config, const Logger& log) {
  RealClock clock;
  Metrics metrics;
  TimerThread timers;
  ASSIGN_OR_RETURN(const Keys keys, Keys::Make(config.admission.tenants));
  ASSIGN_OR_RETURN(const Fleet::MakeClient make_client, ClientMaker(config, timers));
  Fleet fleet({}, log, metrics, clock);
  SystemResolver resolver;
  Discovery discovery({.addresses = config.workers,
                       .dns = config.workers_dns,
                       .every = config.resolve_every,
                       .max_groups = config.max_groups},
                      resolver, fleet, make_client, log, metrics);
  Admission admission(config.admission);
  TaskPool tasks(config.threads);
  ConclaveRpc service({.limits = config.limits,
                       .place_patience = config.place_patience,
                       .client_stall = config.client_stall,
                       .keep = config.keep},
                      {keys, admission, fleet, tasks, timers, clock, metrics, log});
  RouterServer server;
  RETURN_IF_ERROR(server.Start(config, service.rpc()));
  ASSIGN_OR_RETURN(const int metrics_port, metrics.Serve(config.metrics_listen));
  log.Info("serving", {{"port", server.port()},
                       {"health_port", server.health_port()},
                       {"metrics_port", metrics_port},
                       {"groups", config.workers.size()},
                       {"dns", config.workers_dns},
                       {"keys", keys.open() ? "none: open to anybody" : "required"}});
  RETURN_IF_ERROR(WritePorts(config.ports_file, server.port(), server.health_port(), metrics_port));
  discovery.Start();

  bool ready = false;
  while (!AwaitStop(ready ? absl::Seconds(1) : absl::Milliseconds(50))) {
    service.Sweep();
    if (const bool now = AnyGroupReady(fleet); now != ready) server.SetReady(ready = now);
  }
  log.Info("draining", {{"delay", config.drain_delay}, {"timeout", config.drain_timeout}});
  server.SetReady(false);
  AwaitStop(config.drain_delay);
  admission.Drain();
  const absl::Time end = clock.Now() + config.drain_timeout;
  while (admission.running() > 0 && clock.Now() < end && !AwaitStop(absl::Milliseconds(20)))
    service.Sweep();
  const int left = admission.running();
  server.Shutdown(clock.Now() + absl::Milliseconds(200));
  log.Info("drained", {{"cancelled", left}});
  // Nothing is left to lose. Taking gRPC apart is skipped: 1.51 frees its shared completion queue
  // twice when the last channel and the last server go at the same moment.
  _exit(0);
}

constexpr char kAbout[] =
    "The public API of Conclave: takes requests, spreads each over agents on worker groups, and\n"
    "streams what they do. Stateless; any number may run.\n"
    "\n"
    "  conclave-router --config configs/router.yaml\n"
    "  conclave-router --set server.listen=0.0.0.0:9100 --set \"workers.addresses=[gpu1:9101]\"\n"
    "\n"
    "`conclave check FILE` says whether a config is right. SIGTERM drains: no new requests, and "
    "an\n"
    "end when those that run are over, or drain.timeout.\n";

constexpr char kExitCodeText[] =
    "Exit codes:\n"
    "  0  drained after SIGTERM or SIGINT\n"
    "  1  it could not start to serve: an address in use, a file that cannot be read\n"
    "  2  the command line or the config is wrong";

int Main(int argc, char** argv) {
  CLI::App app{kAbout, "conclave-router"};
  std::string path;
  std::vector<std::string> overrides;
  app.set_version_flag("--version", CONCLAVE_VERSION);
  app.add_option("--config", path,
                 "A YAML file; configs/router.yaml says what each key means. Without it every key "
                 "has the default that stands there")
      ->type_name("FILE");
  app.add_option("--set", overrides, "Overrides one key: server.listen=0.0.0.0:9100")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  app.footer(kExitCodeText);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  const sigset_t signals = StopSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // Every thread leaves them to the one that waits.
  const auto config = LoadRouterConfig(path, overrides, NamedFiles::kCheck);
  const absl::Status end = config.ok() ? Serve(*config, Logger(config->log)) : config.status();
  if (end.ok()) return 0;
  std::cerr << ComplaintText("conclave-router", end);
  return config.ok() ? 1 : 2;
}

}  // namespace
}  // namespace conclave::router

int main(int argc, char** argv) { return conclave::router::Main(argc, argv); }
