#include "worker/group/rpc_channel.h"

#include <absl/time/clock.h>
#include <grpcpp/grpcpp.h>

#include <thread>
#include <utility>

#include "common/status.h"
#include "common/wire/grpc_status.h"
#include "conclave/v1/group.grpc.pb.h"
#include "worker/group/rank_cell.h"
#include "worker/group/server_bounds.h"
#include "worker/group/shm_channel.h"

namespace conclave::worker {
namespace {

constexpr int kMaxRequestBytes = 4096;                                        // A hello, or a mark.
constexpr int kMaxResponseBytes = static_cast<int>(kMaxMessageBytes) + 1024;  // A plan.

using FollowStream = grpc::ServerReaderWriter<v1::FollowResponse, v1::FollowRequest>;

// Marks come in order, one for each plan that was sent. Returns when they come no more.
void TakeMarks(FollowStream& stream, GroupMemory& memory, int rank) {
  ShmFollowerChannel ring(memory, rank);
  v1::FollowRequest request;
  for (uint64_t number = 1; stream.Read(&request); ++number) {
    if (!request.has_mark() || request.mark().number() != number) return;
    RankCell& cell = memory.cell(rank);
    cell.step_hashes[number % cell.step_hashes.size()].store(request.mark().hash(),
                                                             std::memory_order_release);
    ring.Report({.number = number, .hash = request.mark().hash()});
  }
}

}  // namespace

class PlanServer::Service : public v1::GroupService::Service {
 public:
  Service(GroupMemory& memory, int first_remote) : memory_(memory), first_remote_(first_remote) {}

  int first_remote() const { return first_remote_; }

  grpc::Status Follow(grpc::ServerContext* context, FollowStream* stream) override {
    v1::FollowRequest request;
    if (!ReadHello(*context, kHelloPatience, *stream, request)) {
      return ToGrpc(InvalidArgument("no request came"));
    }
    if (const absl::Status status = Accept(request); !status.ok()) return ToGrpc(status);
    const int rank = request.hello().rank();
    std::thread marks([&] {
      TakeMarks(*stream, memory_, rank);
      // Also a follower that is silent from now on, or talks nonsense, is not to be waited for.
      context->TryCancel();
    });
    const absl::Status end = SendPlans(*stream, rank);
    if (end.code() != absl::StatusCode::kCancelled) context->TryCancel();
    marks.join();
    return grpc::Status::OK;
  }

 private:
  absl::Status Accept(const v1::FollowRequest& request) ABSL_LOCKS_EXCLUDED(mutex_) {
    const v1::FollowHello& hello = request.hello();
    if (!request.has_hello()) return InvalidArgument("hello: it must come first");
    if (hello.epoch().number() != memory_.epoch() || hello.epoch().nonce() != memory_.nonce()) {
      return FailedPrecondition("rank {} is of epoch {} ({:016x}); this is {} ({:016x})",
                                hello.rank(), hello.epoch().number(), hello.epoch().nonce(),
                                memory_.epoch(), memory_.nonce());
    }
    if (hello.rank() < first_remote_ || hello.rank() >= memory_.tp()) {
      return FailedPrecondition("rank {} is none of {} to {}", hello.rank(), first_remote_,
                                memory_.tp() - 1);
    }
    absl::MutexLock lock(&mutex_);
    if (!came_.insert(hello.rank()).second) {
      return MakeStatus(absl::StatusCode::kAlreadyExists,
                        fmt::format("rank {} came before", hello.rank()));
    }
    return absl::OkStatus();
  }

  // Returns why no more are sent: kCancelled when the channel was closed, in order.
  absl::Status SendPlans(FollowStream& stream, int rank) {
    ShmFollowerChannel ring(memory_, rank);
    v1::FollowResponse response;
    while (true) {
      absl::StatusOr<std::string> plan = ring.Receive();
      if (!plan.ok()) {
        response.clear_plan();
        stream.Write(response);
        return plan.status();
      }
      response.set_plan(*std::move(plan));
      if (!stream.Write(response)) return Unavailable("rank {} is lost", rank);
    }
  }

  GroupMemory& memory_;
  const int first_remote_;
  absl::Mutex mutex_;
  std::set<int> came_ ABSL_GUARDED_BY(mutex_);
};

PlanServer::PlanServer(GroupMemory& memory, int first_remote)
    : memory_(memory), service_(std::make_unique<Service>(memory, first_remote)) {}

PlanServer::~PlanServer() {
  ShmLeaderChannel(memory_).Close();
  if (server_ != nullptr) server_->Shutdown(absl::ToChronoTime(absl::Now() + absl::Seconds(2)));
}

absl::Status PlanServer::Start(const std::string& listen, const TlsOptions& tls) {
  ASSIGN_OR_RETURN(std::shared_ptr<grpc::ServerCredentials> credentials,
                   MakeServerCredentials(tls));
  grpc::ServerBuilder builder;
  builder.AddListeningPort(listen, std::move(credentials), &port_);
  builder.RegisterService(service_.get());
  builder.SetMaxReceiveMessageSize(kMaxRequestBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxRanks);
  builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  BoundServer("leader", 2 * (memory_.tp() - service_->first_remote()), builder);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || port_ == 0) return Unavailable("cannot listen on {}", listen);
  memory_.header().plan_port.Put(std::to_string(port_));
  return absl::OkStatus();
}

struct RpcFollowerChannel::Stream {
  std::unique_ptr<v1::GroupService::Stub> stub;
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReaderWriter<v1::FollowRequest, v1::FollowResponse>> calls;
  v1::FollowRequest request;
  v1::FollowResponse response;
  bool finished = false;

  // Why the stream is over.
  absl::Status Finish() {
    finished = true;
    return FromGrpc(calls->Finish());
  }
};

RpcFollowerChannel::RpcFollowerChannel(std::unique_ptr<Stream> stream)
    : stream_(std::move(stream)) {}

RpcFollowerChannel::~RpcFollowerChannel() {
  if (stream_->finished) return;
  stream_->context.TryCancel();
  stream_->Finish().IgnoreError();
}

absl::StatusOr<std::unique_ptr<RpcFollowerChannel>> RpcFollowerChannel::Connect(
    const RpcFollowerOptions& options) {
  ASSIGN_OR_RETURN(std::shared_ptr<grpc::ChannelCredentials> credentials,
                   MakeChannelCredentials(options.tls));
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxResponseBytes);
  arguments.SetInt(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const auto channel = grpc::CreateCustomChannel(options.leader, std::move(credentials), arguments);
  if (!channel->WaitForConnected(absl::ToChronoTime(absl::Now() + options.connect_patience))) {
    return DeadlineExceeded("no connection to the leader at {} within {}", options.leader,
                            absl::FormatDuration(options.connect_patience));
  }
  auto stream = std::make_unique<Stream>();
  stream->stub = v1::GroupService::NewStub(channel);
  stream->calls = stream->stub->Follow(&stream->context);
  v1::FollowHello& hello = *stream->request.mutable_hello();
  hello.mutable_epoch()->set_number(options.epoch);
  hello.mutable_epoch()->set_nonce(options.nonce);
  hello.set_rank(options.rank);
  stream->calls->Write(stream->request);  // A stream that is lost shows at the first Receive.
  return std::unique_ptr<RpcFollowerChannel>(new RpcFollowerChannel(std::move(stream)));
}

absl::StatusOr<std::string> RpcFollowerChannel::Receive() {
  if (stream_->finished) return Cancelled("the control channel is closed");
  if (!stream_->calls->Read(&stream_->response)) {
    const absl::Status end = stream_->Finish();
    if (end.code() == absl::StatusCode::kFailedPrecondition || absl::IsAlreadyExists(end)) {
      return Annotate(end, "refused by the leader");
    }
    return Unavailable("the leader is lost: {}", end.ok() ? "it went" : MessageOf(end));
  }
  if (!stream_->response.plan().empty()) return std::move(*stream_->response.mutable_plan());
  stream_->calls->WritesDone();
  stream_->Finish().IgnoreError();
  return Cancelled("the control channel is closed");
}

void RpcFollowerChannel::Report(const DoneMark& mark) {
  stream_->request.mutable_mark()->set_number(mark.number);
  stream_->request.mutable_mark()->set_hash(mark.hash);
  stream_->calls->Write(stream_->request);  // A stream that is lost shows at the next Receive.
}

}  // namespace conclave::worker
