#include "common/wire/grpc_status.h"

#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <string>

#include "common/status.h"
#include "common/status_details.h"
#include "common/utf8.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace conclave {
namespace {

constexpr char kDomain[] = "conclave";
constexpr int kMostDetails = 32;

// A peer takes 8 KiB of trailers, as gRPC does unless it is told otherwise, and answers more with
// an error of its own. A byte of a message may take three there, and three of details take four.
constexpr size_t kMostTextBytes = 1024;
constexpr size_t kMostDetailBytes = 2560;

// As much of a text as is told. Protobuf takes UTF-8 only.
std::string Told(std::string_view text) {
  const std::string valid = ValidUtf8(text);  // Up to three times as long.
  if (valid.size() <= kMostTextBytes) return valid;
  return std::string(FirstCharacters(valid, kMostTextBytes)) + "...";
}

// What a peer sent as a duration; nothing when it is not a sane one.
std::optional<absl::Duration> FromProto(const google::protobuf::Duration& duration) {
  if (duration.seconds() < 0 || duration.seconds() > 86'400 * 365) return std::nullopt;
  if (duration.nanos() < 0 || duration.nanos() >= 1'000'000'000) return std::nullopt;
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

void PackBadRequest(const StatusDetails& details, google::rpc::Status& wire) {
  if (details.fields.empty()) return;
  google::rpc::BadRequest message;
  for (const auto& [field, what] : details.fields) {
    auto* violation = message.add_field_violations();
    violation->set_field(Told(field));
    violation->set_description(Told(what));
  }
  wire.add_details()->PackFrom(message);
}

void PackQuota(const StatusDetails& details, google::rpc::Status& wire) {
  if (details.quotas.empty()) return;
  google::rpc::QuotaFailure message;
  for (const auto& [subject, what] : details.quotas) {
    auto* violation = message.add_violations();
    violation->set_subject(Told(subject));
    violation->set_description(Told(what));
  }
  wire.add_details()->PackFrom(message);
}

void Pack(const StatusDetails& details, google::rpc::Status& wire) {
  PackBadRequest(details, wire);
  PackQuota(details, wire);
  if (details.retry_after) {
    google::rpc::RetryInfo message;
    *message.mutable_retry_delay() = google::protobuf::util::TimeUtil::NanosecondsToDuration(
        absl::ToInt64Nanoseconds(*details.retry_after));
    wire.add_details()->PackFrom(message);
  }
  if (!details.reason.empty()) {
    google::rpc::ErrorInfo message;
    message.set_reason(details.reason);
    message.set_domain(kDomain);
    message.mutable_metadata()->insert(details.metadata.begin(), details.metadata.end());
    wire.add_details()->PackFrom(message);
  }
  if (!details.request_id.empty()) {
    google::rpc::RequestInfo message;
    message.set_request_id(details.request_id);
    wire.add_details()->PackFrom(message);
  }
  // What is too long a text is no delay to keep to, and no name of a request.
  while (wire.ByteSizeLong() > kMostDetailBytes && wire.details_size() > 0) {
    auto& all = *wire.mutable_details();
    all.erase(std::max_element(all.begin(), all.end(), [](const auto& a, const auto& b) {
      return a.ByteSizeLong() < b.ByteSizeLong();
    }));
  }
}

void Unpack(const google::protobuf::Any& any, StatusDetails& details) {
  if (google::rpc::BadRequest bad; any.UnpackTo(&bad)) {
    for (int i = 0; i < std::min(bad.field_violations_size(), kMostDetails); ++i) {
      details.fields.emplace_back(bad.field_violations(i).field(),
                                  bad.field_violations(i).description());
    }
  } else if (google::rpc::QuotaFailure quota; any.UnpackTo(&quota)) {
    for (int i = 0; i < std::min(quota.violations_size(), kMostDetails); ++i) {
      details.quotas.emplace_back(quota.violations(i).subject(), quota.violations(i).description());
    }
  } else if (google::rpc::RetryInfo retry; any.UnpackTo(&retry)) {
    details.retry_after = FromProto(retry.retry_delay());
  } else if (google::rpc::ErrorInfo error; any.UnpackTo(&error)) {
    details.reason = error.reason();
    for (const auto& [key, value] : error.metadata()) {
      if (details.metadata.size() < kMostDetails) details.metadata[key] = value;
    }
  } else if (google::rpc::RequestInfo request; any.UnpackTo(&request)) {
    details.request_id = request.request_id();
  }
}

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const auto code = static_cast<grpc::StatusCode>(status.raw_code());
  const std::string message = Told(MessageOf(status));
  const StatusDetails details = DetailsOf(status);
  if (details == StatusDetails{}) return grpc::Status(code, message);
  google::rpc::Status wire;
  wire.set_code(code);
  wire.set_message(message);
  Pack(details, wire);
  return grpc::Status(code, message, wire.SerializeAsString());
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  const int code = status.error_code();
  const bool known = code > grpc::StatusCode::OK && code <= grpc::StatusCode::UNAUTHENTICATED;
  const absl::Status plain =
      MakeStatus(known ? static_cast<absl::StatusCode>(code) : absl::StatusCode::kUnknown,
                 status.error_message());
  google::rpc::Status wire;
  if (status.error_details().empty() || !wire.ParseFromString(status.error_details())) return plain;
  StatusDetails details;
  for (int i = 0; i < std::min(wire.details_size(), kMostDetails); ++i)
    Unpack(wire.details(i), details);
  return WithDetails(plain, details);
}

}  // namespace conclave
