#pragma once

#include <absl/status/statusor.h>
#include <absl/time/time.h>

#include <optional>
#include <string>

#include "conclave/v1/conclave.pb.h"
#include "router/api/answer_gate.h"
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

// What a request says of its stream rather than of its answer.
struct StreamTerms {
  absl::Duration keep_for;           // How long it outlives its client's stream.
  std::optional<HeldAnswer> resume;  // Takes up a stream that broke.
};

// kInvalidArgument as ParseRequest. A longer keep_for than `longest` is cut to it.
absl::StatusOr<StreamTerms> ParseStreamTerms(const v1::GenerateRequest& wire,
                                             absl::Duration longest);

// Whether `id` can name a request: 1 to 128 characters of A-Z a-z 0-9 . _ : -
bool IsRequestId(const std::string& id);

// kInvalidArgument unless the field request_id holds one.
absl::Status CheckRequestId(const std::string& id);

// kInvalidArgument when the name is longer than any model's.
absl::Status CheckModelName(const std::string& name);

}  // namespace conclave::router
