#include "cli/error_text.h"

#include <absl/time/time.h>
#include <fmt/format.h>

#include "cli/terminal_text.h"
#include "common/status.h"
#include "common/status_details.h"

namespace conclave::cli {
namespace {

// What the person at the keyboard can do; empty where only the message tells.
std::string Advice(absl::StatusCode code, const StatusDetails& details) {
  if (details.retry_after.has_value()) {
    return fmt::format("try again in {:.1f} s", absl::ToDoubleSeconds(*details.retry_after));
  }
  switch (code) {
    case absl::StatusCode::kUnavailable:
      return "is the router running? `make serve` starts one, --router HOST:PORT names another";
    case absl::StatusCode::kResourceExhausted:
      return "try again in a moment, or ask for fewer --agents or --total-tokens";
    case absl::StatusCode::kUnauthenticated:
      return "--api-key-file FILE names a file whose first line is your key";
    case absl::StatusCode::kPermissionDenied:
      return "this key may not do that; --api-key-file FILE names another";
    case absl::StatusCode::kNotFound:
      return "`conclave models` lists what is served";
    case absl::StatusCode::kInvalidArgument:
      return "--help of the command lists its options";
    case absl::StatusCode::kUnimplemented:
      return "leave that out, or ask a newer router; is --router the public port?";
    case absl::StatusCode::kDeadlineExceeded:
      return "give it more time with --deadline, or less to do";
    case absl::StatusCode::kAborted:
      return "a replay needs its receipt's question, options and fingerprint; `conclave models` "
             "lists "
             "those that are served";
    case absl::StatusCode::kOutOfRange:
      return "ask something shorter, or for fewer tokens; `conclave models` shows the limits";
    default:
      return "";
  }
}

}  // namespace

std::string ErrorText(const std::string& address, const absl::Status& status) {
  const std::string message(MessageOf(status));
  std::string text = fmt::format("conclave: {}: {}: {}\n", OneLine(address),
                                 absl::StatusCodeToString(status.code()), OneLine(message));
  const StatusDetails details = DetailsOf(status);
  for (const auto& [field, what] : details.fields) {
    if (message.find(what) == std::string::npos) {
      text += fmt::format("  {}: {}\n", OneLine(field), OneLine(what));
    }
  }
  if (const std::string advice = Advice(status.code(), details); !advice.empty()) {
    text += fmt::format("  {}\n", advice);
  }
  return text;
}

}  // namespace conclave::cli
