#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <cstdint>
#include <string>
#include <vector>

#include "common/config.h"
#include "common/log.h"
#include "common/wire/credentials.h"
#include "worker/backend/cuda_module.h"
#include "worker/launch/host_place.h"
#include "worker/launch/judge.h"
#include "worker/runner/device_choice.h"

namespace conclave::worker {

// What a worker is told: configs/worker.yaml says what each key means. The defaults here and there
// are the same; a test compares them.
struct WorkerConfig {
  struct Model {
    std::string directory = "models/conclave-demo";
    std::string name;  // Empty: the directory's own name.
    std::string fallback_profile = "configs/prompts/default.yaml";

    bool operator==(const Model&) const = default;
  } model;

  struct Group {
    int tensor_parallel = 2;
    int threads = 1;                       // Of each rank's arithmetic.
    std::string instruction_set = "auto";  // auto, avx512, avx2, plain
    DeviceKind device = DeviceKind::kAuto;
    CudaOptions cuda;  // The ordinal is each rank's own.
    int64_t kv_tokens = 65'536;
    int max_agents = 64;
    int max_batched_tokens = 512;
    int plans_in_flight = 1;
    HostsOptions hosts;
    TlsOptions hosts_tls;  // Between their launchers, and of the plans; not of the collective.

    bool operator==(const Group&) const = default;
  } group;

  struct Server {
    std::string listen = "127.0.0.1:9101";
    TlsOptions tls;
    ByteSize max_message{32 << 20};
    int max_families = 256;
    int render_threads = 2;
    absl::Duration retry_after = absl::Seconds(1);

    bool operator==(const Server&) const = default;
  } server;

  std::string health_listen = "127.0.0.1:9102";
  std::string metrics_listen = "127.0.0.1:9103";
  std::string ports_file;  // Empty: none.
  absl::Duration drain_timeout = absl::Seconds(30);

  struct Launch {
    JudgeLimits judge;
    int max_restarts = 5;
    absl::Duration restart_window = absl::Minutes(10);
    absl::Duration first_backoff = absl::Milliseconds(200);
    absl::Duration max_backoff = absl::Seconds(10);
    ByteSize flight_ring{64 << 20};
    std::string flight_directory;  // Empty: flights are not kept.
    int max_flight_files = 8;

    bool operator==(const Launch&) const = default;
  } launcher;

  LogOptions log;

  bool operator==(const WorkerConfig&) const = default;
};

// Reads `path`, or only the defaults when it is empty, with "key=value" overrides laid over it.
// Errors as in common/config.h: file, line, column, key. `files`: whether the files that it names
// and the model's folder are looked at too; weights are mapped, not read.
absl::StatusOr<WorkerConfig> LoadWorkerConfig(const std::string& path,
                                              const std::vector<std::string>& overrides,
                                              NamedFiles files = NamedFiles::kIgnore);

}  // namespace conclave::worker
