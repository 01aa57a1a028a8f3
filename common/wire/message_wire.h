#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <string_view>
#include <vector>

#include "common/answer/answer_key.h"
#include "common/answer/checker.h"
#include "common/chat.h"
#include "common/generation.h"
#include "conclave/v1/types.pb.h"

// types.proto <-> common: messages, sampling, answer keys. FromWire checks everything; a complaint
// is kInvalidArgument (or kUnimplemented for media) with StatusDetails that name the field under
// `path`: "messages[2].parts[0].text".
namespace conclave {

inline constexpr int kMostMessages = 1024;
inline constexpr int kMostParts = 64;

using WireMessages = google::protobuf::RepeatedPtrField<v1::Message>;

void ToWire(const std::vector<Message>& messages, WireMessages* out);
// `least`: how many there must be.
absl::StatusOr<std::vector<Message>> FromWire(const WireMessages& messages, std::string_view path,
                                              int least = 1);

// Every field is set.
v1::Sampling ToWire(const Sampling& sampling);
// Fields that are not set are taken from `defaults`.
absl::StatusOr<Sampling> FromWire(const v1::Sampling& sampling, const Sampling& defaults,
                                  std::string_view path);

v1::AnswerKey ToWire(const AnswerKeySpec& spec);
// KIND_UNSPECIFIED gives `defaults`. The argument's syntax is AnswerKey::Parse's to judge.
absl::StatusOr<AnswerKeySpec> FromWire(const v1::AnswerKey& key, const AnswerKeySpec& defaults,
                                       std::string_view path);

v1::Checker ToWire(const CheckerSpec& spec);
// The argument's syntax is Checker::Parse's to judge.
absl::StatusOr<CheckerSpec> FromWire(const v1::Checker& checker, std::string_view path);

// A complaint about one field: code, "path: what", and the BadRequest detail.
absl::Status BadField(std::string_view path, std::string_view what,
                      absl::StatusCode code = absl::StatusCode::kInvalidArgument);

}  // namespace conclave
