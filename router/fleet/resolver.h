#pragma once

#include <absl/status/statusor.h>

#include <string>
#include <vector>

namespace conclave::router {

// Turns a name into the addresses behind it.
class Resolver {
 public:
  virtual ~Resolver() = default;
  // `name` is HOST:PORT. "10.0.0.7:9101" or "[fd00::7]:9101" of each address of the host, in order,
  // each once; of a host that has both kinds the IPv4 ones only, since they are the same machines.
  // kUnavailable: it does not resolve now. May block for as long as the system's resolver does.
  virtual absl::StatusOr<std::vector<std::string>> Resolve(const std::string& name) = 0;
};

// Asks getaddrinfo: /etc/hosts, DNS, as the host is set up.
class SystemResolver : public Resolver {
 public:
  absl::StatusOr<std::vector<std::string>> Resolve(const std::string& name) override;
};

}  // namespace conclave::router
