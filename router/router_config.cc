#include "router/router_config.h"

#include <set>
#include <utility>

#include "common/address.h"
#include "common/config_checks.h"
#include "common/status.h"
#include "common/wire/tls_files.h"
#include "router/admission/keys.h"

namespace conclave::router {
namespace {

constexpr Range<absl::Duration> kPatience = {absl::Milliseconds(1), absl::Hours(24)};

void Read(ConfigNode node, RouterConfig& config, NamedFiles files) {
  node.Read("listen", &config.listen);
  config.tls = ReadServerTlsOptions(node.Section("tls"));
  if (files == NamedFiles::kCheck) CheckTlsFiles(node.Section("tls"), config.tls);
  node.Read("max_message", &config.max_message, {{1 << 10}, {1 << 30}});
  node.Read("max_streams", &config.max_streams, {1, 1 << 20, "requests"});
  node.Read("client_stall", &config.client_stall, kPatience);
  node.Read("threads", &config.threads, {1, 64, "threads"});
}

void ReadWorkers(ConfigNode node, RouterConfig& config, NamedFiles files) {
  node.Read("dns", &config.workers_dns);
  node.Read("resolve_every", &config.resolve_every, {absl::Milliseconds(100), absl::Hours(1)});
  node.Read("max_groups", &config.max_groups, {1, 4096, "groups"});
  if (!config.workers_dns.empty()) {
    absl::Status status = CheckListenAddress(config.workers_dns);  // No form of gRPC's own.
    if (status.ok()) status = CheckPeerAddress(config.workers_dns);
    if (!status.ok()) node.Fail("dns", MessageOf(status));
    if (!node.Has("addresses")) config.workers.clear();
  }
  node.Read("addresses", &config.workers);
  if (config.workers.empty() && config.workers_dns.empty()) {
    node.Fail("addresses", "must name at least one group, unless workers.dns does");
  }
  if (config.workers.size() > static_cast<size_t>(config.max_groups)) {
    node.Fail("addresses", fmt::format("names {} groups; workers.max_groups is {}",
                                       config.workers.size(), config.max_groups));
  }
  std::set<std::string> seen;
  for (const std::string& address : config.workers) {
    const absl::Status status = CheckPeerAddress(address);
    if (!status.ok()) node.Fail("addresses", MessageOf(status));
    if (!seen.insert(address).second) {
      node.Fail("addresses", fmt::format("\"{}\" is there twice", address));
    }
  }
  config.worker_tls = ReadTlsOptions(node.Section("tls"));
  if (files == NamedFiles::kCheck) CheckTlsFiles(node.Section("tls"), config.worker_tls);
  node.Read("place_patience", &config.place_patience, kPatience);
}

TenantOptions ReadTenant(ConfigNode node) {
  TenantOptions tenant;
  node.Read("name", &tenant.name);
  node.Read("keys", &tenant.keys);
  node.Read("max_requests", &tenant.max_requests, {1, 1 << 20, "requests"});
  node.Read("max_agents", &tenant.max_agents, {1, 1 << 24, "agents"});
  node.Read("weight", &tenant.weight, {0.001, 1000});
  if (tenant.name.empty()) node.Fail("name", "must not be empty");
  if (tenant.keys.empty()) {
    node.Fail("keys", "must hold at least one SHA-256 of a key");
  } else if (const absl::Status keys = Keys::Make({tenant}).status(); !keys.ok()) {
    node.Fail("keys", MessageOf(keys));
  }
  return tenant;
}

void Read(ConfigNode node, AdmissionOptions& admission) {
  node.Read("max_requests", &admission.max_requests, {1, 1 << 20, "requests"});
  node.Read("max_agents", &admission.max_agents, {1, 1 << 24, "agents"});
  node.Read("max_queued", &admission.max_queued, {0, 1 << 20, "requests"});
  node.Read("queue_wait", &admission.queue_wait, kPatience);
  node.Read("retry_after", &admission.retry_after, kPatience);
  for (const ConfigNode& each : node.Items("tenants")) {
    admission.tenants.push_back(ReadTenant(each));
  }
  // One by one they are right; a key may still belong to two of them.
  const absl::Status keys = Keys::Make(admission.tenants).status();
  if (!keys.ok()) node.Fail("tenants", MessageOf(keys));
}

void Read(ConfigNode node, Limits& limits) {
  node.Read("max_agents", &limits.max_agents, {1, 64, "agents"});
  node.Read("max_tokens", &limits.max_tokens, {1, int64_t{1} << 40, "tokens"});
  node.Read("max_lead", &limits.max_lead, {0, 1 << 24, "tokens"});
  node.Read("deadline", &limits.deadline, kPatience);
  node.Read("place_wait", &limits.place_wait, kPatience);
  node.Read("narrow_wait", &limits.narrow_wait, kPatience);
  node.Read("straggler_patience", &limits.straggler_patience, kPatience);
  node.Read("resume_wait", &limits.resume_wait, kPatience);
  node.Read("retry_wait", &limits.retry_wait, kPatience);
  node.Read("receipt_wait", &limits.receipt_wait, kPatience);
}

void Read(ConfigNode node, KeepOptions& keep) {
  node.Read("longest", &keep.longest, {absl::ZeroDuration(), absl::Hours(24)});
  node.Read("max_requests", &keep.max_requests, {0, 1 << 20, "requests"});
  node.Read("max_bytes", &keep.max_bytes, {{0}, {int64_t{1} << 40}});
}

void Read(ConfigNode node, LogOptions& log) {
  node.ReadChoice("level", &log.level,
                  {{"debug", LogLevel::kDebug},
                   {"info", LogLevel::kInfo},
                   {"warning", LogLevel::kWarning},
                   {"error", LogLevel::kError}});
  node.ReadChoice("format", &log.format, {{"text", LogFormat::kText}, {"json", LogFormat::kJson}});
}

}  // namespace

absl::StatusOr<RouterConfig> LoadRouterConfig(const std::string& path,
                                              const std::vector<std::string>& overrides,
                                              NamedFiles files) {
  ASSIGN_OR_RETURN(Config file, path.empty() ? Config::Parse("", "defaults", overrides)
                                             : Config::Load(path, overrides));
  RouterConfig config;
  ConfigNode root = file.root();
  Read(root.Section("server"), config, files);
  root.Section("health").Read("listen", &config.health_listen);
  root.Section("metrics").Read("listen", &config.metrics_listen);
  CheckListeners(root, {{"server", config.listen},
                        {"health", config.health_listen},
                        {"metrics", config.metrics_listen}});
  root.Read("ports_file", &config.ports_file);
  if (files == NamedFiles::kCheck) CheckFolderOf(root, "ports_file", config.ports_file);
  ReadWorkers(root.Section("workers"), config, files);
  Read(root.Section("admission"), config.admission);
  Read(root.Section("limits"), config.limits);
  Read(root.Section("keep"), config.keep);
  ConfigNode drain = root.Section("drain");
  drain.Read("delay", &config.drain_delay);
  drain.Read("timeout", &config.drain_timeout);
  Read(root.Section("log"), config.log);
  RETURN_IF_ERROR(file.Finish());
  return config;
}

}  // namespace conclave::router
