#include "worker/leader.h"

#include <absl/cleanup/cleanup.h>
#include <absl/time/clock.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "common/clock.h"
#include "common/metrics.h"
#include "common/status.h"
#include "worker/engine/engine.h"
#include "worker/launch/likeness.h"
#include "worker/launch/rank_flags.h"
#include "worker/service/description.h"
#include "worker/service/timed_runner.h"
#include "worker/service/worker_server.h"
#include "worker/service/worker_service.h"
#include "worker/text/text_model.h"

namespace conclave::worker {
namespace {

sigset_t StopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

// True when a stop signal came within `timeout`.
bool AwaitStop(absl::Duration timeout) {
  const sigset_t signals = StopSignals();
  const timespec wait = absl::ToTimespec(timeout);
  return sigtimedwait(&signals, nullptr, &wait) > 0;
}

// False when a stop signal came first. Without end: how long loading may take, the launcher judges.
bool AwaitRanks(const GroupMemory& memory) {
  for (int rank = 0; rank < memory.tp(); ++rank) {
    while (memory.cell(rank).ready.load(std::memory_order_acquire) == 0) {
      if (AwaitStop(absl::Milliseconds(5))) return false;
    }
  }
  return true;
}

std::string ModelName(const WorkerConfig::Model& model) {
  if (!model.name.empty()) return model.name;
  const std::filesystem::path path = std::filesystem::path(model.directory).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

// Of an address that has been listened on.
int PortOf(const std::string& address) {
  return std::atoi(address.c_str() + address.rfind(':') + 1);
}

// A reader never sees half of it.
absl::Status WritePorts(const std::string& path, int server, int health, int metrics) {
  const std::string draft = fmt::format("{}.{}", path, getpid());
  std::ofstream file(draft);
  file << fmt::format("server={}\nhealth={}\nmetrics={}\n", server, health, metrics);
  file.close();
  if (!file || std::rename(draft.c_str(), path.c_str()) != 0) {
    return Unavailable("cannot write {}", path);
  }
  return absl::OkStatus();
}

ServiceOptions OptionsOf(const LeaderParts& parts) {
  const WorkerConfig& config = parts.config;
  return {.vocab_size = parts.runner.shape().vocab_size,
          .max_families = config.server.max_families,
          .render_threads = config.server.render_threads,
          .max_batched_tokens = config.group.max_batched_tokens,
          .retry_after = config.server.retry_after,
          .epoch = static_cast<int64_t>(parts.memory.epoch()),
          .last_loss = std::string(parts.memory.last_loss()),
          .losses = parts.memory.header().losses};
}

WorkerServerOptions ServerOptionsOf(const WorkerConfig& config) {
  WorkerServerOptions options;
  options.listen = config.server.listen;
  options.tls = config.server.tls;
  options.max_message_bytes = static_cast<int>(config.server.max_message.bytes);
  return options;
}

// What the service tells the process: its beats, its health, and its end.
ServiceHooks HooksOf(const LeaderParts& parts, WorkerServer& server) {
  RankCell& cell = parts.memory.cell(0);
  return {.on_pulse =
              [&cell](bool ready) {
                cell.service_turns.fetch_add(1, std::memory_order_relaxed);
                cell.serving.store(ready ? 1 : 0, std::memory_order_relaxed);
              },
          .launcher_silent = [&parts] { return parts.beat.launcher_silent(); },
          .on_lost =
              [&cell, &server, &parts](const absl::Status& why) {
                parts.log.Error("the group is lost", {{"why", why}});
                SayLastWords(cell, MessageOf(why));
                // The streams have been ended; what they say last gets a moment to leave.
                server.Shutdown(absl::Now() + absl::Milliseconds(100));
                _exit(RankExitCode(why, parts.elsewhere));
              }};
}

}  // namespace

absl::Status Lead(const LeaderParts& parts) {
  const WorkerConfig& config = parts.config;
  ASSIGN_OR_RETURN(const std::unique_ptr<TextModel> text,
                   TextModel::Load(config.model.directory, config.model.fallback_profile));
  if (!AwaitRanks(parts.memory)) return absl::OkStatus();
  RETURN_IF_ERROR(CheckRanksAreAlike(parts.memory));

  RealClock clock;
  Metrics metrics;
  TimedRunner runner(parts.runner, clock, metrics);
  ModelDescription model =
      Describe(ModelName(config.model), parts.family, parts.parameters, runner.shape(), *text);
  RankCell& cell = parts.memory.cell(0);
  Engine engine({.max_batched_tokens = config.group.max_batched_tokens,
                 .max_families = config.server.max_families,
                 .plans_in_flight = config.group.plans_in_flight,
                 .on_turn = [&cell] { cell.engine_turns.fetch_add(1, std::memory_order_relaxed); }},
                runner, clock);
  WorkerServer server;
  WorkerService service(OptionsOf(parts), model, engine, *text, metrics, parts.log,
                        HooksOf(parts, server));
  const absl::Cleanup stop = [&server] { server.Shutdown(absl::Now() + absl::Seconds(2)); };
  ASSIGN_OR_RETURN(const int metrics_port, metrics.Serve(config.metrics_listen));
  RETURN_IF_ERROR(server.Start(ServerOptionsOf(config), service.rpc()));
  parts.log.Info("serving", {{"model", model.name},
                             {"fingerprint", model.fingerprint},
                             {"numerics", model.numerics},
                             {"ranks", model.tensor_parallel},
                             {"epoch", parts.memory.epoch()},
                             {"port", server.port()},
                             {"metrics_port", metrics_port}});
  if (!config.ports_file.empty()) {
    RETURN_IF_ERROR(
        WritePorts(config.ports_file, server.port(), PortOf(config.health_listen), metrics_port));
  }

  while (!AwaitStop(absl::Hours(1))) continue;
  parts.log.Info("draining", {{"timeout", config.drain_timeout}});
  const bool all_ended = service.Drain(config.drain_timeout);
  parts.log.Info("drained", {{"all_ended", all_ended}});
  return absl::OkStatus();
}

}  // namespace conclave::worker
