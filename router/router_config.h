#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <string>
#include <vector>

#include "common/config.h"
#include "common/log.h"
#include "common/wire/credentials.h"
#include "router/admission/admission.h"
#include "router/api/kept_requests.h"
#include "router/contemplation/plan.h"

namespace conclave::router {

// What a router is told: configs/router.yaml says what each key means. The defaults here and there
// are the same; a test compares them.
struct RouterConfig {
  std::string listen = "127.0.0.1:9100";
  TlsOptions tls;
  ByteSize max_message{8 << 20};
  int max_streams = 1024;
  std::string health_listen = "127.0.0.1:9104";
  std::string metrics_listen = "127.0.0.1:9105";
  std::string ports_file;

  std::vector<std::string> workers = {"127.0.0.1:9101"};
  std::string workers_dns;  // Empty: none.
  absl::Duration resolve_every = absl::Seconds(5);
  int max_groups = 256;
  TlsOptions worker_tls;
  absl::Duration place_patience = absl::Seconds(20);

  AdmissionOptions admission;
  Limits limits;
  KeepOptions keep;
  absl::Duration client_stall = absl::Seconds(60);
  int threads = 2;
  absl::Duration drain_delay = absl::ZeroDuration();
  absl::Duration drain_timeout = absl::Seconds(30);
  LogOptions log;

  bool operator==(const RouterConfig&) const = default;
};

// Reads `path`, or only the defaults when it is empty, with "key=value" overrides laid over it.
// Errors as in common/config.h: file, line, column, key. `files`: whether the files that it names
// are looked at too.
absl::StatusOr<RouterConfig> LoadRouterConfig(const std::string& path,
                                              const std::vector<std::string>& overrides,
                                              NamedFiles files = NamedFiles::kIgnore);

}  // namespace conclave::router
