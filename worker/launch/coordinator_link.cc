#include "worker/launch/coordinator_link.h"

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <grpcpp/grpcpp.h>

#include <thread>
#include <utility>

#include "common/status.h"
#include "common/wire/grpc_status.h"
#include "conclave/v1/group.grpc.pb.h"
#include "worker/launch/host_wire.h"

namespace conclave::worker {

// One stream. Ends when host 0 ends it, the connection breaks, or it is destroyed.
class CoordinatorLink::Membership {
 public:
  Membership(const std::shared_ptr<grpc::Channel>& channel, const v1::JoinHello& hello)
      : stub_(v1::GroupService::NewStub(channel)), reader_([this, hello] { Run(hello); }) {}
  ~Membership() {
    context_.TryCancel();
    reader_.join();
  }

  std::optional<absl::Status> End() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return end_;
  }
  std::optional<HostOrders> Orders() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    return orders_;
  }
  void Report(const HostReport& report) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    report_ = ToWire(report);
  }

 private:
  void Run(const v1::JoinHello& hello) ABSL_LOCKS_EXCLUDED(mutex_) {
    stream_ = stub_->Join(&context_);  // Waits until there is a connection, or none.
    std::thread writer([this, &hello] { TellReports(hello); });
    absl::Status fault;
    v1::JoinResponse response;
    while (fault.ok() && stream_->Read(&response)) {
      absl::StatusOr<HostOrders> orders = FromWire(response);
      fault = orders.status();
      absl::MutexLock lock(&mutex_);
      if (orders.ok()) orders_ = *std::move(orders);
    }
    if (!fault.ok()) context_.TryCancel();
    {
      absl::MutexLock lock(&mutex_);
      over_ = true;
    }
    writer.join();
    const absl::Status end = FromGrpc(stream_->Finish());
    absl::MutexLock lock(&mutex_);
    end_ = !fault.ok() ? Unavailable("what it says makes no sense: {}", MessageOf(fault))
           : end.ok()  ? Unavailable("it ended the membership")
                       : end;
  }

  // The newest report, whenever there is one.
  void TellReports(v1::JoinHello hello) ABSL_LOCKS_EXCLUDED(mutex_) {
    v1::JoinRequest request;
    *request.mutable_hello() = std::move(hello);
    auto wanted = [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return over_ || report_.has_value(); };
    while (true) {
      {
        absl::MutexLock lock(&mutex_);
        mutex_.Await(absl::Condition(&wanted));
        if (over_) return;
        *request.mutable_report() = *std::exchange(report_, std::nullopt);
      }
      if (!stream_->Write(request)) return;
      request.clear_hello();
    }
  }

  grpc::ClientContext context_;
  const std::unique_ptr<v1::GroupService::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::JoinRequest, v1::JoinResponse>> stream_;
  absl::Mutex mutex_;
  std::optional<HostOrders> orders_ ABSL_GUARDED_BY(mutex_);
  std::optional<v1::HostReport> report_ ABSL_GUARDED_BY(mutex_);  // Not sent yet.
  bool over_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<absl::Status> end_ ABSL_GUARDED_BY(mutex_);
  std::thread reader_;  // Last: it uses all of the above.
};

absl::StatusOr<std::unique_ptr<CoordinatorLink>> CoordinatorLink::Make(
    CoordinatorLinkOptions options) {
  ASSIGN_OR_RETURN(std::shared_ptr<grpc::ChannelCredentials> credentials,
                   MakeChannelCredentials(options.tls));
  return std::unique_ptr<CoordinatorLink>(
      new CoordinatorLink(std::move(options), std::move(credentials)));
}

CoordinatorLink::CoordinatorLink(CoordinatorLinkOptions options,
                                 std::shared_ptr<grpc::ChannelCredentials> credentials)
    : options_(std::move(options)), credentials_(std::move(credentials)) {}

CoordinatorLink::~CoordinatorLink() = default;

// A connection of its own each time: what gRPC remembers of one that failed would hold the next
// back.
void CoordinatorLink::Join() {
  membership_.reset();
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxHostMessageBytes);
  arguments.SetInt(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  v1::JoinHello hello;
  hello.set_version(1);
  hello.set_hosts(options_.place.hosts);
  hello.set_host(options_.place.host);
  hello.set_tensor_parallel(options_.tp);
  membership_ = std::make_unique<Membership>(
      grpc::CreateCustomChannel(options_.coordinator, credentials_, arguments), hello);
}

void CoordinatorLink::Leave() { membership_.reset(); }

std::optional<absl::Status> CoordinatorLink::End() {
  return membership_ == nullptr ? std::nullopt : membership_->End();
}

std::optional<HostOrders> CoordinatorLink::Orders() {
  return membership_ == nullptr ? std::nullopt : membership_->Orders();
}

void CoordinatorLink::Report(const HostReport& report) {
  if (membership_ != nullptr) membership_->Report(report);
}

}  // namespace conclave::worker
