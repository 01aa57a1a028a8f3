#pragma once

#include <absl/status/statusor.h>

#include <functional>
#include <string>

#include "worker/launch/host_state.h"

namespace conclave::worker {

// What a worker is told about the hosts of its group; configs/worker.yaml says what each means.
struct HostsOptions {
  bool from_environment = false;
  int count = 1;
  int index = 0;
  std::string leader = {};
  int port = 9104;
  std::string address = {};

  bool operator==(const HostsOptions&) const = default;
};

// Where this host stands in its group.
struct GroupPlace : HostPlace {
  std::string leader;   // Host 0's name or address.
  int port = 0;         // Where its launcher is joined.
  std::string address;  // Of this host, when it was told.

  // HOST:PORT of host 0's launcher, for those who join.
  std::string coordinator() const;
};

// kInvalidArgument names the key or the variable. `variable` gives an environment variable's value
// or null, as getenv does.
absl::StatusOr<GroupPlace> FindPlace(const HostsOptions& options, int tp,
                                     const std::function<const char*(const char*)>& variable);

// The address by which other hosts reach this one, as numbers: the one that was told, or the one
// from which host 0 is reached. kUnavailable: a name is not known, or there is no way there.
absl::StatusOr<std::string> OwnAddress(const GroupPlace& place);

// "HOST:PORT", an IPv6 address in brackets.
std::string JoinHostPort(const std::string& host, int port);

}  // namespace conclave::worker
