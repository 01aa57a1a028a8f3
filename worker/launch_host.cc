#include "worker/launch_host.h"

#include <memory>
#include <utility>

#include "common/status.h"
#include "worker/collective/shared_collective.h"
#include "worker/launch/coordinator.h"
#include "worker/launch/coordinator_link.h"
#include "worker/launch/health_server.h"
#include "worker/launch/launcher.h"
#include "worker/reserved_port.h"

namespace conclave::worker {
namespace {

// A key's value is told to the ranks as it turned out.
void Tell(const std::string& key, const std::string& value, std::vector<std::string>& arguments) {
  arguments.push_back("--set");
  arguments.push_back(key + "=" + value);
}

RankOptions RankOptionsOf(const WorkerConfig& config, const HostPlace& place,
                          std::vector<std::string> arguments) {
  RankOptions options;
  options.tp = config.group.tensor_parallel;
  options.place = place;
  options.rank_arguments = std::move(arguments);
  options.collective_bytes = SharedCollectiveBytes(place.ranks_of_each(options.tp));
  options.ring_bytes = static_cast<size_t>(config.launcher.flight_ring.bytes) / 64 * 64;
  return options;
}

// On a host other than host 0.
absl::Status Join(const WorkerConfig& config, const GroupPlace& place,
                  std::vector<std::string> arguments, HealthServer& health, const Logger& log) {
  ASSIGN_OR_RETURN(const std::unique_ptr<CoordinatorLink> link,
                   CoordinatorLink::Make({.coordinator = place.coordinator(),
                                          .tls = config.group.hosts_tls,
                                          .tp = config.group.tensor_parallel,
                                          .place = place}));
  JoinerOptions options;
  static_cast<RankOptions&>(options) = RankOptionsOf(config, place, std::move(arguments));
  options.silence = config.launcher.judge.beat;
  options.first_backoff = config.launcher.first_backoff;
  options.max_backoff = config.launcher.max_backoff;
  options.drain_timeout = config.drain_timeout + absl::Seconds(5);
  options.log = [&log](std::string_view line) { log.Info(line); };
  options.on_serving = [&health](bool serves) { health.SetReady(serves); };
  log.Info("joins", {{"host", place.host}, {"host_0", place.coordinator()}});
  return RunJoiner(std::move(options), *link);
}

// On host 0, or the only one.
absl::Status Supervise(const WorkerConfig& config, const GroupPlace& place,
                       std::vector<std::string> arguments, HealthServer& health,
                       const Logger& log) {
  // A port that the system chose must outlive the leader.
  ASSIGN_OR_RETURN(const ReservedPort port, ReservedPort::Take(config.server.listen));
  Tell("server.listen", port.address(), arguments);
  std::unique_ptr<Coordinator> others;
  if (place.hosts > 1) {
    ASSIGN_OR_RETURN(const std::string address, OwnAddress(place));
    others = std::make_unique<Coordinator>(config.group.tensor_parallel, place.hosts);
    RETURN_IF_ERROR(others->Start(JoinHostPort(address, place.port), config.group.hosts_tls));
    log.Info("other hosts may join", {{"hosts", place.hosts}, {"port", others->port()}});
  }
  LauncherOptions options;
  static_cast<RankOptions&>(options) = RankOptionsOf(config, place, std::move(arguments));
  options.judge = config.launcher.judge;
  options.drain_timeout = config.drain_timeout + absl::Seconds(5);
  options.max_restarts = config.launcher.max_restarts;
  options.restart_window = config.launcher.restart_window;
  options.first_backoff = config.launcher.first_backoff;
  options.max_backoff = config.launcher.max_backoff;
  options.flight_directory = config.launcher.flight_directory;
  options.max_flight_files = config.launcher.max_flight_files;
  options.log = [&log](std::string_view line) { log.Info(line); };
  options.on_serving = [&health](bool serves) { health.SetReady(serves); };
  return RunLauncher(std::move(options), others.get());
}

}  // namespace

absl::Status LaunchHost(const WorkerConfig& config, const GroupPlace& place,
                        std::vector<std::string> arguments, const Logger& log) {
  RETURN_IF_ERROR(BlockLauncherSignals());
  HealthServer health;
  RETURN_IF_ERROR(health.Start(config.health_listen));
  const size_t colon = config.health_listen.rfind(':');
  Tell("health.listen", fmt::format("{}:{}", config.health_listen.substr(0, colon), health.port()),
       arguments);
  if (place.hosts > 1) {
    log.Warning("what ranks exchange between hosts is neither encrypted nor signed",
                {{"hosts", place.hosts}});
    if (!config.group.hosts_tls.enabled()) {
      log.Warning("hosts join in plaintext: whoever reaches the port may take a host's place",
                  {{"key", "group.hosts.tls"}});
    }
  }
  return place.host == 0 ? Supervise(config, place, std::move(arguments), health, log)
                         : Join(config, place, std::move(arguments), health, log);
}

}  // namespace conclave::worker
