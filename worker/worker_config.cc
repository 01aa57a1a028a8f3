#include "worker/worker_config.h"

#include <filesystem>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>

#include "common/config_checks.h"
#include "common/status.h"
#include "common/wire/tls_files.h"
#include "worker/model/config.h"
#include "worker/model/safetensors.h"
#include "worker/model/sharding.h"
#include "worker/text/text_model.h"

namespace conclave::worker {
namespace {

void Read(ConfigNode node, WorkerConfig::Model* model) {
  node.Read("directory", &model->directory);
  node.Read("name", &model->name);
  node.Read("fallback_profile", &model->fallback_profile);
  if (model->directory.empty()) node.Fail("directory", "must name the model's folder");
}

// Each line of what a loader says about the model's folder.
void FailEach(ConfigNode& node, const absl::Status& status) {
  std::istringstream lines{std::string(MessageOf(status))};
  for (std::string line; std::getline(lines, line);) node.Fail("directory", line);
}

// What the ranks would find out while they load: before any of them is started.
void CheckModelFolder(ConfigNode node, const WorkerConfig& config) {
  const std::filesystem::path directory = config.model.directory;
  std::error_code error;
  if (!std::filesystem::is_directory(directory, error)) {
    if (!config.model.directory.empty()) {
      node.Fail("directory", fmt::format("{} is not a folder", config.model.directory));
    }
    return;
  }
  const absl::StatusOr<ModelConfig> model = LoadModelConfig(directory);
  if (!model.ok()) FailEach(node, model.status());
  for (int rank = 0; model.ok() && rank < config.group.tensor_parallel; ++rank) {
    const absl::Status shard = ShardOf(*model, rank, config.group.tensor_parallel).status();
    if (shard.ok()) continue;
    FailEach(node, Annotate(shard, "group.tensor_parallel"));
    break;
  }
  FailEach(node, Safetensors::Open(directory).status());
  FailEach(node, TextModel::Load(directory, config.model.fallback_profile).status());
}

void ReadArithmetic(ConfigNode& node, WorkerConfig::Group& group) {
  using Compute = CudaOptions::Compute;
  using Weights = CudaOptions::Weights;
  using Kv = CudaOptions::Kv;
  node.ReadChoice("compute", &group.cuda.compute,
                  {{"auto", Compute::kAuto}, {"f32", Compute::kF32}, {"bf16", Compute::kBF16}});
  if (group.cuda.compute == Compute::kBF16 && group.device == DeviceKind::kCpu) {
    node.Fail("compute", "bf16 is a GPU's, and group.device is cpu; f32 and auto are served there");
  }
  ConfigNode cuda = node.Section("cuda");
  cuda.ReadChoice(
      "weights", &group.cuda.weights,
      {{"as_stored", Weights::kAsStored}, {"fp8", Weights::kFp8}, {"int4", Weights::kInt4}});
  if (group.cuda.weights != Weights::kAsStored && group.device == DeviceKind::kCpu) {
    cuda.Fail("weights", "fp8 and int4 are a GPU's, and group.device is cpu");
  } else if (group.cuda.weights != Weights::kAsStored && group.cuda.compute == Compute::kF32) {
    cuda.Fail("weights", "fp8 and int4 need bf16, and group.compute is f32");
  }
  cuda.ReadChoice("kv", &group.cuda.kv,
                  {{"as_activations", Kv::kAsActivations}, {"fp8", Kv::kFp8}});
  if (group.cuda.kv != Kv::kAsActivations && group.device == DeviceKind::kCpu) {
    cuda.Fail("kv", "fp8 is a GPU's, and group.device is cpu");
  } else if (group.cuda.kv != Kv::kAsActivations && group.cuda.compute == Compute::kF32) {
    cuda.Fail("kv", "fp8 needs bf16, and group.compute is f32");
  }
  cuda.Read("graphs", &group.cuda.graphs);
}

void ReadHosts(ConfigNode node, WorkerConfig::Group& group) {
  HostsOptions& hosts = group.hosts;
  node.ReadChoice("place", &hosts.from_environment, {{"config", false}, {"environment", true}});
  node.Read("count", &hosts.count, {1, 64, "hosts"});
  node.Read("index", &hosts.index, {0, 63, "hosts"});
  node.Read("leader", &hosts.leader);
  node.Read("port", &hosts.port, {1, 65'535, "ports"});
  node.Read("address", &hosts.address);
  group.hosts_tls = ReadServerTlsOptions(node.Section("tls"));
  const auto& tls = group.hosts_tls;
  if (tls.enabled() && (tls.certificate_file.empty() || tls.authority_file.empty())) {
    node.Fail("tls", "certificate, key and authority go together: hosts prove themselves");
  }
  if (hosts.from_environment) return;  // Whoever starts the worker knows it, and may not be here.
  const auto place = FindPlace(hosts, group.tensor_parallel, [](const char*) { return nullptr; });
  if (!place.ok()) node.Fail("count", MessageOf(place.status()));
}

void Read(ConfigNode node, WorkerConfig::Group* group) {
  node.Read("tensor_parallel", &group->tensor_parallel, {1, 64, "ranks"});
  node.Read("threads", &group->threads, {1, 256, "threads"});
  node.ReadChoice<std::string>(
      "instruction_set", &group->instruction_set,
      {{"auto", "auto"}, {"avx512", "avx512"}, {"avx2", "avx2"}, {"plain", "plain"}});
  node.ReadChoice(
      "device", &group->device,
      {{"auto", DeviceKind::kAuto}, {"cpu", DeviceKind::kCpu}, {"cuda", DeviceKind::kCuda}});
  ReadArithmetic(node, *group);
  node.Read("kv_tokens", &group->kv_tokens, {16, int64_t{1} << 32, "tokens"});
  node.Read("max_agents", &group->max_agents, {1, 1024, "agents"});
  node.Read("max_batched_tokens", &group->max_batched_tokens, {1, 65'536, "tokens"});
  node.Read("plans_in_flight", &group->plans_in_flight, {1, 2, "steps"});
  ReadHosts(node.Section("hosts"), *group);
}

void Read(ConfigNode node, WorkerConfig::Server* server) {
  node.Read("listen", &server->listen);
  server->tls = ReadServerTlsOptions(node.Section("tls"));
  node.Read("max_message", &server->max_message, {{1 << 16}, {1 << 30}});
  node.Read("max_families", &server->max_families, {1, 65'536, "families"});
  node.Read("render_threads", &server->render_threads, {1, 64, "threads"});
  node.Read("retry_after", &server->retry_after, {absl::Milliseconds(1), absl::Hours(1)});
}

void Read(ConfigNode node, WorkerConfig::Launch* launch) {
  const Range<absl::Duration> range = {absl::Milliseconds(10), absl::Hours(24)};
  node.Read("first_beat", &launch->judge.first_beat, range);
  // A rank beats every 50 ms, and is looked at as often.
  node.Read("beat", &launch->judge.beat, {absl::Milliseconds(250), absl::Hours(24)});
  node.Read("loop", &launch->judge.loop, range);
  node.Read("ready", &launch->judge.ready, range);
  node.Read("max_restarts", &launch->max_restarts, {0, 1'000'000, "restarts"});
  node.Read("restart_window", &launch->restart_window, range);
  node.Read("first_backoff", &launch->first_backoff, range);
  node.Read("max_backoff", &launch->max_backoff, range);
  node.Read("flight_ring", &launch->flight_ring, {{1 << 16}, {1 << 30}});
  node.Read("flight_directory", &launch->flight_directory);
  node.Read("max_flight_files", &launch->max_flight_files, {1, 10'000, "files"});
}

void Read(ConfigNode node, LogOptions* log) {
  node.ReadChoice("level", &log->level,
                  {{"debug", LogLevel::kDebug},
                   {"info", LogLevel::kInfo},
                   {"warning", LogLevel::kWarning},
                   {"error", LogLevel::kError}});
  node.ReadChoice("format", &log->format, {{"text", LogFormat::kText}, {"json", LogFormat::kJson}});
}

}  // namespace

absl::StatusOr<WorkerConfig> LoadWorkerConfig(const std::string& path,
                                              const std::vector<std::string>& overrides,
                                              NamedFiles files) {
  ASSIGN_OR_RETURN(Config file, path.empty() ? Config::Parse("", "defaults", overrides)
                                             : Config::Load(path, overrides));
  WorkerConfig config;
  ConfigNode root = file.root();
  Read(root.Section("model"), &config.model);
  Read(root.Section("group"), &config.group);
  Read(root.Section("server"), &config.server);
  root.Section("health").Read("listen", &config.health_listen);
  root.Section("metrics").Read("listen", &config.metrics_listen);
  CheckListeners(root, {{"server", config.server.listen},
                        {"health", config.health_listen},
                        {"metrics", config.metrics_listen}});
  root.Read("ports_file", &config.ports_file);
  root.Read("drain_timeout", &config.drain_timeout);
  Read(root.Section("launcher"), &config.launcher);
  Read(root.Section("log"), &config.log);
  if (files == NamedFiles::kCheck) {
    CheckModelFolder(root.Section("model"), config);
    CheckTlsFiles(root.Section("server").Section("tls"), config.server.tls);
    CheckTlsFiles(root.Section("group").Section("hosts").Section("tls"), config.group.hosts_tls);
    CheckFolderOf(root, "ports_file", config.ports_file);
    CheckFolderToMake(root.Section("launcher"), "flight_directory",
                      config.launcher.flight_directory);
  }
  RETURN_IF_ERROR(file.Finish());
  return config;
}

}  // namespace conclave::worker
