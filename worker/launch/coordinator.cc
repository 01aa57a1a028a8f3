#include "worker/launch/coordinator.h"

#include <absl/synchronization/notification.h>
#include <absl/time/clock.h>
#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <thread>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "common/wire/grpc_status.h"
#include "conclave/v1/group.grpc.pb.h"
#include "worker/group/server_bounds.h"
#include "worker/launch/host_wire.h"

namespace conclave::worker {
namespace {

constexpr uint32_t kVersion = 1;
// For a host to take what was told before its membership ends.
constexpr absl::Duration kLastWords = absl::Seconds(1);

using JoinStream = grpc::ServerReaderWriter<v1::JoinResponse, v1::JoinRequest>;

}  // namespace

class Coordinator::Service : public v1::GroupService::Service {
 public:
  Service(int tp, int hosts, absl::Duration hello_patience)
      : tp_(tp),
        hosts_(hosts),
        hello_patience_(hello_patience),
        slots_(static_cast<size_t>(hosts - 1)) {}

  grpc::Status Join(grpc::ServerContext* context, JoinStream* stream) override {
    v1::JoinRequest request;
    if (!ReadHello(*context, hello_patience_, *stream, request)) {
      return ToGrpc(InvalidArgument("no request came"));
    }
    if (const absl::Status status = Admit(request.hello(), *context); !status.ok()) {
      return ToGrpc(status);
    }
    const int host = request.hello().host();
    absl::Notification told;
    std::thread writer([&] {
      TellOrders(host, *context, *stream);
      told.Notify();
    });
    absl::Status fault;
    do {
      absl::StatusOr<HostReport> report = FromWire(request.report());
      if (report.ok()) report = CheckRanks(*std::move(report));
      if (!report.ok()) fault = Annotate(report.status(), "the host's report makes no sense");
      if (!report.ok() || !Hear(host, *context, *std::move(report))) break;
    } while (stream->Read(&request));
    const absl::Status end = fault.ok() ? Unavailable("its connection ended") : fault;
    Part(host, *context, std::string(MessageOf(end)));
    // A cancelled call would not say why.
    if (fault.ok() || !told.WaitForNotificationWithTimeout(kLastWords)) context->TryCancel();
    writer.join();
    return ToGrpc(end);
  }

  std::vector<Member> Look() ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    std::vector<Member> members;
    for (const Slot& slot : slots_) members.push_back(slot.member);
    return members;
  }

  void Order(const HostOrders& orders) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    if (orders_ == orders && version_ > 0) return;
    orders_ = orders;
    ++version_;
  }

  int hosts() const { return hosts_; }

  void Drop(int host, const std::string& why) ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    Slot& slot = SlotOf(host);
    if (slot.context == nullptr) return;
    slot.context->TryCancel();
    Empty(slot, why);
  }

 private:
  struct Slot {
    Member member;
    grpc::ServerContext* context = nullptr;  // Of the stream that is this host; null: none is.
  };

  Slot& SlotOf(int host) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return slots_.at(static_cast<size_t>(host - 1));
  }
  static void Empty(Slot& slot, const std::string& why) {
    slot.context = nullptr;
    slot.member = {.here = false, .report = {}, .left = why};
  }

  absl::Status Admit(const v1::JoinHello& hello, grpc::ServerContext& context)
      ABSL_LOCKS_EXCLUDED(mutex_) {
    if (hello.version() != kVersion) {
      return FailedPrecondition("version is {}, and host 0's is {}", hello.version(), kVersion);
    }
    if (hello.tensor_parallel() != tp_) {
      return FailedPrecondition("tensor_parallel is {}, and host 0's is {}",
                                hello.tensor_parallel(), tp_);
    }
    if (hello.hosts() != hosts_) {
      return FailedPrecondition("hosts are {}, and host 0's are {}", hello.hosts(), hosts_);
    }
    if (hello.host() < 1 || hello.host() >= hosts_) {
      return FailedPrecondition("host {} is none of 1 to {}", hello.host(), hosts_ - 1);
    }
    absl::MutexLock lock(&mutex_);
    Slot& slot = SlotOf(hello.host());
    if (slot.context != nullptr) {
      return MakeStatus(absl::StatusCode::kAlreadyExists,
                        fmt::format("host {} is here already", hello.host()));
    }
    slot.context = &context;
    slot.member = {.here = true, .report = {}, .left = {}};
    return absl::OkStatus();
  }

  absl::StatusOr<HostReport> CheckRanks(HostReport report) const {
    const size_t ranks = static_cast<size_t>(tp_ / hosts_);
    if (report.ranks.empty() ? !report.epoch || !report.fault.empty()
                             : report.epoch && report.ranks.size() == ranks) {
      return report;
    }
    return InvalidArgument("ranks are {}; a host has {}", report.ranks.size(), ranks);
  }

  // False when this stream is no host any more.
  bool Hear(int host, const grpc::ServerContext& context, HostReport report)
      ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    Slot& slot = SlotOf(host);
    if (slot.context != &context) return false;
    slot.member.report = std::move(report);
    return true;
  }

  void Part(int host, const grpc::ServerContext& context, const std::string& why)
      ABSL_LOCKS_EXCLUDED(mutex_) {
    absl::MutexLock lock(&mutex_);
    Slot& slot = SlotOf(host);
    if (slot.context == &context) Empty(slot, why);
  }

  // The newest orders, whenever there are some, until the stream is no host any more.
  void TellOrders(int host, const grpc::ServerContext& context, JoinStream& stream)
      ABSL_LOCKS_EXCLUDED(mutex_) {
    uint64_t told = 0;
    while (true) {
      v1::JoinResponse response;
      {
        auto wanted = [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
          return version_ != told || SlotOf(host).context != &context;
        };
        absl::MutexLock lock(&mutex_);
        mutex_.Await(absl::Condition(&wanted));
        if (SlotOf(host).context != &context) return;
        told = version_;
        response = ToWire(orders_);
      }
      if (!stream.Write(response)) return;
    }
  }

  const int tp_, hosts_;
  const absl::Duration hello_patience_;
  absl::Mutex mutex_;
  std::vector<Slot> slots_ ABSL_GUARDED_BY(mutex_);  // From host 1 on.
  HostOrders orders_ ABSL_GUARDED_BY(mutex_);
  uint64_t version_ ABSL_GUARDED_BY(mutex_) = 0;  // Of orders_; 0: none yet.
};

Coordinator::Coordinator(int tp, int hosts, absl::Duration hello_patience)
    : service_(std::make_unique<Service>(tp, hosts, hello_patience)) {
  CHECK(hosts > 1 && tp % hosts == 0);
}

Coordinator::~Coordinator() {
  if (server_ != nullptr) server_->Shutdown(absl::ToChronoTime(absl::Now()));
}

absl::Status Coordinator::Start(const std::string& listen, const TlsOptions& tls) {
  ASSIGN_OR_RETURN(std::shared_ptr<grpc::ServerCredentials> credentials,
                   MakeServerCredentials(tls));
  grpc::ServerBuilder builder;
  builder.AddListeningPort(listen, std::move(credentials), &port_);
  builder.RegisterService(service_.get());
  builder.SetMaxReceiveMessageSize(kMaxHostMessageBytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kMaxRanks);
  builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  BoundServer("launcher", 2 * service_->hosts(), builder);  // A host may come while it leaves.
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || port_ == 0) return Unavailable("cannot listen on {}", listen);
  return absl::OkStatus();
}

std::vector<OtherHosts::Member> Coordinator::Look() { return service_->Look(); }
void Coordinator::Order(const HostOrders& orders) { service_->Order(orders); }
void Coordinator::Drop(int host, const std::string& why) { service_->Drop(host, why); }

}  // namespace conclave::worker
