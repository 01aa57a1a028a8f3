#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

// The bridge between absl::Status and std types: Debian's Abseil has its own string_view. Messages
// are made with {fmt}, in lower case, without a full stop, and with the numbers: "prompt has 9000
// tokens; the limit is 8192".
namespace conclave {

inline std::string_view MessageOf(const absl::Status& status) {
  return {status.message().data(), status.message().size()};
}

inline absl::Status MakeStatus(absl::StatusCode code, std::string_view message) {
  return absl::Status(code, absl::string_view(message.data(), message.size()));
}

// Same code, "context: message".
inline absl::Status Annotate(const absl::Status& status, std::string_view context) {
  return status.ok() ? status
                     : MakeStatus(status.code(), fmt::format("{}: {}", context, MessageOf(status)));
}

#define CONCLAVE_STATUS_MAKER(Name, code)                                      \
  template <typename... Args>                                                  \
  absl::Status Name(fmt::format_string<Args...> format, Args&&... args) {      \
    return MakeStatus(code, fmt::format(format, std::forward<Args>(args)...)); \
  }
CONCLAVE_STATUS_MAKER(InvalidArgument, absl::StatusCode::kInvalidArgument)
CONCLAVE_STATUS_MAKER(NotFound, absl::StatusCode::kNotFound)
CONCLAVE_STATUS_MAKER(OutOfRange, absl::StatusCode::kOutOfRange)
CONCLAVE_STATUS_MAKER(ResourceExhausted, absl::StatusCode::kResourceExhausted)
CONCLAVE_STATUS_MAKER(FailedPrecondition, absl::StatusCode::kFailedPrecondition)
CONCLAVE_STATUS_MAKER(Unimplemented, absl::StatusCode::kUnimplemented)
CONCLAVE_STATUS_MAKER(Unavailable, absl::StatusCode::kUnavailable)
CONCLAVE_STATUS_MAKER(DeadlineExceeded, absl::StatusCode::kDeadlineExceeded)
CONCLAVE_STATUS_MAKER(Cancelled, absl::StatusCode::kCancelled)
CONCLAVE_STATUS_MAKER(Aborted, absl::StatusCode::kAborted)
CONCLAVE_STATUS_MAKER(DataLoss, absl::StatusCode::kDataLoss)
CONCLAVE_STATUS_MAKER(Internal, absl::StatusCode::kInternal)
CONCLAVE_STATUS_MAKER(Unauthenticated, absl::StatusCode::kUnauthenticated)
#undef CONCLAVE_STATUS_MAKER

}  // namespace conclave

#define RETURN_IF_ERROR(expression)                                         \
  do {                                                                      \
    if (absl::Status status_ = (expression); !status_.ok()) return status_; \
  } while (false)

#define CONCLAVE_CONCAT_INNER(a, b) a##b
#define CONCLAVE_CONCAT(a, b) CONCLAVE_CONCAT_INNER(a, b)
#define CONCLAVE_ASSIGN_OR_RETURN(holder, target, expression) \
  auto holder = (expression);                                 \
  if (!holder.ok()) return holder.status();                   \
  target = *std::move(holder)
#define ASSIGN_OR_RETURN(target, expression) \
  CONCLAVE_ASSIGN_OR_RETURN(CONCLAVE_CONCAT(status_or_, __LINE__), target, expression)
