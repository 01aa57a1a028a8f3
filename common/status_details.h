#pragma once

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace conclave {

// What a status says to programs, besides its code and message: the common form of google.rpc's
// details. It travels inside the status as a payload, so that whoever finds an error can say it and
// only common/wire knows how it looks on the wire.
struct StatusDetails {
  // BadRequest: path of a field, what is wrong with it.
  std::vector<std::pair<std::string, std::string>> fields = {};
  // QuotaFailure: whose limit, which one.
  std::vector<std::pair<std::string, std::string>> quotas = {};
  std::optional<absl::Duration> retry_after = {};    // RetryInfo.
  std::string reason = {};                           // ErrorInfo: UPPER_SNAKE_CASE.
  std::map<std::string, std::string> metadata = {};  // ErrorInfo's; only with a reason.
  std::string request_id = {};                       // RequestInfo.

  bool operator==(const StatusDetails&) const = default;
};

// The details that a status carries; empty ones when it carries none. Damaged payloads count as
// none.
StatusDetails DetailsOf(const absl::Status& status);

// The same status with other details. An OK status stays OK and carries nothing.
absl::Status WithDetails(absl::Status status, const StatusDetails& details);

// The same status, saying when to come back, besides what it said.
absl::Status WithRetryAfter(const absl::Status& status, absl::Duration retry_after);

// The same status, naming the request, besides what it said.
absl::Status WithRequestId(const absl::Status& status, const std::string& request_id);

}  // namespace conclave
