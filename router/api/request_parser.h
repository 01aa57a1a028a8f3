#pragma once

#include <absl/status/statusor.h>

#include "conclave/v1/conclave.pb.h"
#include "router/contemplation/request.h"

namespace conclave::router {

// What the wire's request lacks: a drawn seed and id for requests that bring none, and the time.
struct RequestDraws {
  uint64_t seed = 0;
  std::string id;
  int64_t time_of_day = 0;  // Seconds since 1970.
};

// GenerateRequest -> Request. Everything is checked here that can be without a model:
// kInvalidArgument (with the field's path, its value and the limit) or kUnimplemented for what is
// in the API and not built, naming the field.
absl::StatusOr<Request> ParseRequest(const v1::GenerateRequest& wire, const RequestDraws& draws);

// kInvalidArgument when the name is longer than any model's.
absl::Status CheckModelName(const std::string& name);

}  // namespace conclave::router
