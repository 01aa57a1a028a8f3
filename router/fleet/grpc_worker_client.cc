#include "router/fleet/grpc_worker_client.h"

#include <absl/time/clock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/support/channel_arguments.h>

#include <utility>

#include "common/status.h"
#include "common/wire/family_wire.h"
#include "common/wire/grpc_status.h"
#include "common/wire/message_wire.h"
#include "common/wire/prompt_wire.h"
#include "router/fleet/family_stream.h"

namespace conclave::router {
namespace {

constexpr absl::Duration kPromptDeadline = absl::Seconds(10);

// What one call about a prompt needs until its answer is there.
template <typename Request, typename Response>
struct PromptCall {
  grpc::ClientContext context;
  Request request;
  Response response;
};

// Shared with the callback, which comes after the caller has returned.
template <typename Request, typename Response>
std::shared_ptr<PromptCall<Request, Response>> MakeCall(const PromptQuestion& question) {
  auto call = std::make_shared<PromptCall<Request, Response>>();
  ToWire(question.messages, call->request.mutable_messages());
  call->request.set_thinking(ToWire(question.thinking));
  call->request.set_time_of_day(question.time_of_day);
  call->context.set_deadline(absl::ToChronoTime(absl::Now() + kPromptDeadline));
  return call;
}

}  // namespace

std::shared_ptr<grpc::Channel> MakeWorkerChannel(
    const std::string& address, const std::shared_ptr<grpc::ChannelCredentials>& credentials,
    const WorkerChannelOptions& options) {
  const int keepalive_ms = static_cast<int>(absl::ToInt64Milliseconds(options.keepalive));
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, keepalive_ms);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, keepalive_ms);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  // Despite its name: what one try to connect may take, with TLS and to a peer that is busy.
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, keepalive_ms);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS,
                   static_cast<int>(absl::ToInt64Milliseconds(options.backoff.most)));
  // More than a group of ours says of an error; what is longer would take the error's place.
  arguments.SetInt(GRPC_ARG_MAX_METADATA_SIZE, 64 << 10);
  // Proxies in the environment are meant for other traffic.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  if (!options.authority.empty()) {
    arguments.SetString(GRPC_ARG_DEFAULT_AUTHORITY, options.authority);
  }
  arguments.SetMaxReceiveMessageSize(options.max_message_bytes);
  arguments.SetMaxSendMessageSize(options.max_message_bytes);
  return grpc::CreateCustomChannel(address, credentials, arguments);
}

GrpcWorkerClient::GrpcWorkerClient(std::shared_ptr<grpc::Channel> channel, TimerThread& timers,
                                   WatchBackoff backoff)
    : channel_(std::move(channel)),
      stub_(v1::WorkerService::NewStub(channel_)),
      timers_(timers),
      backoff_(backoff) {}

std::unique_ptr<FamilyRun> GrpcWorkerClient::Open(FamilyOpening opening,
                                                  std::shared_ptr<FamilyEvents> events) {
  return OpenFamilyStream(channel_, std::move(opening), std::move(events));
}

std::unique_ptr<GroupWatch> GrpcWorkerClient::Watch(GroupEvents& events) {
  return WatchGroup(channel_, timers_, backoff_, events);
}

void GrpcWorkerClient::Count(PromptQuestion question,
                             std::function<void(absl::StatusOr<int>)> done) {
  const auto call = MakeCall<v1::CountRequest, v1::CountResponse>(question);
  stub_->async()->Count(&call->context, &call->request, &call->response,
                        [call, done = std::move(done)](const grpc::Status& status) {
                          if (!status.ok()) return done(FromGrpc(status));
                          done(call->response.tokens());
                        });
}

void GrpcWorkerClient::Render(PromptQuestion question,
                              std::function<void(absl::StatusOr<Prompt>)> done) {
  const auto call = MakeCall<v1::RenderRequest, v1::RenderResponse>(question);
  stub_->async()->Render(&call->context, &call->request, &call->response,
                         [call, done = std::move(done)](const grpc::Status& status) {
                           if (!status.ok()) return done(FromGrpc(status));
                           done(FromWire(call->response));
                         });
}

}  // namespace conclave::router
