#include "cli/health.h"

#include <absl/synchronization/notification.h>
#include <absl/time/clock.h>
#include <fmt/format.h>
#include <google/protobuf/wrappers.pb.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/codegen/proto_utils.h>

#include "cli/exit_code.h"
#include "cli/terminal_text.h"
#include "common/address.h"
#include "common/status.h"
#include "common/wire/grpc_status.h"

namespace conclave::cli {
namespace {

// grpc.health.v1.HealthCheckRequest is one string, field 1, and its response one enum, field 1: on
// the wire they are these. The protocol's own file is not among gRPC's installed headers.
using Request = google::protobuf::StringValue;
using Response = google::protobuf::Int32Value;

const char* NameOf(int status) {
  switch (status) {
    case 1:
      return "SERVING";
    case 2:
      return "NOT_SERVING";
    default:
      return "UNKNOWN";
  }
}

absl::StatusOr<int> Check(const HealthOptions& options) {
  grpc::TemplatedGenericStub<Request, Response> stub(
      grpc::CreateChannel(options.address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(options.timeout_seconds)));
  Request request;
  request.set_value(options.service);
  Response response;
  grpc::Status status;
  absl::Notification answered;
  stub.UnaryCall(&context, "/grpc.health.v1.Health/Check", {}, &request, &response,
                 [&status, &answered](grpc::Status end) {
                   status = std::move(end);
                   answered.Notify();
                 });
  answered.WaitForNotification();
  if (!status.ok()) return FromGrpc(status);
  return response.value();
}

std::string Advice(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kNotFound:
      return "there is no such service; liveness and readiness are what every program has";
    case absl::StatusCode::kUnimplemented:
      return "no health service is there; is it the port of health.listen?";
    default:
      return "is the program running, and is it the port of health.listen?";
  }
}

}  // namespace

int AskHealth(const HealthOptions& options, std::ostream& out, std::ostream& errors) {
  if (const absl::Status address = CheckPeerAddress(options.address); !address.ok()) {
    errors << "conclave: " << OneLine(MessageOf(address)) << std::endl;
    return kExitUsage;
  }
  const std::string where =
      fmt::format("{}: {}", OneLine(options.address), OneLine(options.service));
  const absl::StatusOr<int> status = Check(options);
  if (!status.ok()) {
    errors << fmt::format("conclave: {}: {}: {}; {}", where,
                          absl::StatusCodeToString(status.status().code()),
                          OneLine(MessageOf(status.status())), Advice(status.status().code()))
           << std::endl;
    return kExitFailed;
  }
  out << fmt::format("{}: {}", where, NameOf(*status)) << std::endl;
  return *status == 1 ? kExitOk : kExitFailed;
}

}  // namespace conclave::cli
