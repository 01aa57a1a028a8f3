#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>
#include <google/protobuf/duration.pb.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/status.h"

// Words and seconds of the command line, and what they are in a request.
namespace conclave::cli {

// What a word means.
template <typename Enum>
using Words = std::vector<std::pair<std::string, Enum>>;

// kInvalidArgument names the option and the words that it can be.
template <typename Enum>
absl::StatusOr<Enum> Choose(const char* option, const std::string& word, const Words<Enum>& words) {
  std::string allowed;
  for (const auto& [name, value] : words) {
    if (name == word) return value;
    allowed += (allowed.empty() ? "" : ", ") + name;
  }
  return InvalidArgument("{} is '{}'; it can be {}", option, word, allowed);
}

// kInvalidArgument unless it is not given, or a time that a request can carry.
absl::Status CheckSeconds(const char* option, const std::optional<double>& seconds);

// REQUIRES: CheckSeconds.
google::protobuf::Duration Seconds(double seconds);

}  // namespace conclave::cli
