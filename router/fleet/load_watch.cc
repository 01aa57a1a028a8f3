#include "router/fleet/load_watch.h"

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/clock.h>
#include <grpcpp/generic/generic_stub.h>

#include <algorithm>
#include <utility>

#include "common/status.h"
#include "common/wire/family_wire.h"
#include "common/wire/grpc_status.h"
#include "common/wire/model_wire.h"
#include "common/wire/raw_message.h"
#include "conclave/v1/worker.grpc.pb.h"

namespace conclave::router {
namespace {

constexpr absl::Duration kDescribeDeadline = absl::Seconds(5);

absl::StatusOr<GroupDescription> Read(const v1::DescribeResponse& response) {
  GroupDescription description;
  ASSIGN_OR_RETURN(description.model, FromWire(response.model()));
  description.epoch = response.epoch();
  description.last_loss = response.last_loss();
  return description;
}

// One attempt: a Describe, then the load stream until it breaks. It owns itself (through `self_`)
// while a call runs. What the stream says is read as bytes, so that what is no load is told from
// its end; only a call with two directions can be made so.
class Attempt : public grpc::ClientBidiReactor<v1::WatchLoadRequest, grpc::ByteBuffer> {
 public:
  // What an attempt tells the watch; all false and empty once it is detached.
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void OnDescribed(GroupDescription description) = 0;
    virtual void OnLoad(GroupLoad load) = 0;
    virtual void OnEnded(absl::Status why) = 0;  // Last.
  };

  Attempt(const std::shared_ptr<grpc::Channel>& channel, Listener& listener)
      : channel_(channel), stub_(v1::WorkerService::NewStub(channel)), listener_(&listener) {}

  static void Start(const std::shared_ptr<Attempt>& attempt) {
    attempt->self_ = attempt;
    attempt->describe_context_.set_deadline(absl::ToChronoTime(absl::Now() + kDescribeDeadline));
    attempt->stub_->async()->Describe(
        &attempt->describe_context_, &attempt->describe_request_, &attempt->description_,
        [attempt](grpc::Status status) { attempt->Described(FromGrpc(status)); });
  }

  // No event after it returns.
  void Detach() {
    {
      absl::MutexLock lock(&mutex_);
      detached_ = true;
      mutex_.Await(absl::Condition(this, &Attempt::Quiet));
    }
    describe_context_.TryCancel();
    load_context_.TryCancel();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    auto load = ReadLoad();
    if (load.ok()) {
      Tell([&](Listener& listener) { listener.OnLoad(*load); });
    } else {
      broken_ = load.status();
      load_context_.TryCancel();
    }
    StartRead(&bytes_);
  }

  void OnDone(const grpc::Status& status) override {
    absl::Status why = broken_.ok() ? FromGrpc(status) : broken_;
    End(why.ok() ? Unavailable("the load stream ended") : std::move(why));
  }

 private:
  bool Quiet() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !telling_; }

  // True when the listener was told.
  template <typename Call>
  bool Tell(Call call) {
    {
      absl::MutexLock lock(&mutex_);
      if (detached_) return false;
      telling_ = true;
    }
    call(*listener_);
    absl::MutexLock lock(&mutex_);
    telling_ = false;
    return true;
  }

  void Described(const absl::Status& status) {
    if (!status.ok()) return End(status);
    auto description = Read(description_);
    if (!description.ok()) return End(Annotate(description.status(), "describe"));
    if (!Tell([&](Listener& listener) { listener.OnDescribed(*std::move(description)); })) {
      return End(Cancelled("no longer watched"));
    }
    grpc::TemplatedGenericStub<v1::WatchLoadRequest, grpc::ByteBuffer>(channel_)
        .PrepareBidiStreamingCall(&load_context_, "/conclave.v1.WorkerService/WatchLoad", {}, this);
    StartWriteLast(&load_request_, {});
    StartRead(&bytes_);
    StartCall();
  }

  absl::StatusOr<GroupLoad> ReadLoad() {
    v1::WatchLoadResponse load;
    RETURN_IF_ERROR(ReadMessage(bytes_, load));
    return FromWire(load);
  }

  void End(absl::Status why) {
    const std::shared_ptr<Attempt> self = std::move(self_);
    Tell([&](Listener& listener) { listener.OnEnded(std::move(why)); });
  }

  const std::shared_ptr<grpc::Channel> channel_;
  const std::unique_ptr<v1::WorkerService::Stub> stub_;
  Listener* const listener_;
  std::shared_ptr<Attempt> self_;  // Shared with the watch; let go with the last event.
  grpc::ClientContext describe_context_, load_context_;
  v1::DescribeRequest describe_request_;
  v1::DescribeResponse description_;
  v1::WatchLoadRequest load_request_;
  grpc::ByteBuffer bytes_;  // Of the read in progress.
  absl::Status broken_;

  absl::Mutex mutex_;
  bool detached_ ABSL_GUARDED_BY(mutex_) = false;
  bool telling_ ABSL_GUARDED_BY(mutex_) = false;
};

class GrpcGroupWatch : public GroupWatch, private Attempt::Listener {
 public:
  GrpcGroupWatch(std::shared_ptr<grpc::Channel> channel, TimerThread& timers, WatchBackoff backoff,
                 GroupEvents& events)
      : channel_(std::move(channel)),
        timers_(timers),
        backoff_(backoff),
        events_(events),
        pause_(backoff.least) {}

  ~GrpcGroupWatch() override {
    TimerThread::Id timer = 0;
    std::shared_ptr<Attempt> attempt;
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
      timer = timer_;
      attempt = attempt_;
    }
    timers_.Cancel(timer);
    {
      absl::MutexLock lock(&mutex_);
      attempt = attempt_;
    }
    if (attempt != nullptr) attempt->Detach();
  }

  void Begin() {
    std::shared_ptr<Attempt> attempt;
    Attempt::Listener& listener = *this;
    {
      absl::MutexLock lock(&mutex_);
      if (stopping_) return;
      attempt = attempt_ = std::make_shared<Attempt>(channel_, listener);
    }
    Attempt::Start(attempt);
  }

 private:
  void OnDescribed(GroupDescription description) override {
    {
      absl::MutexLock lock(&mutex_);
      pause_ = backoff_.least;
    }
    events_.OnDescribed(std::move(description));
  }
  void OnLoad(GroupLoad load) override { events_.OnLoad(load); }
  void OnEnded(absl::Status why) override {
    events_.OnGone(std::move(why));
    absl::MutexLock lock(&mutex_);
    if (stopping_) return;
    timer_ = timers_.At(absl::Now() + pause_, [this] { Begin(); });
    pause_ = std::min(2 * pause_, backoff_.most);
  }

  const std::shared_ptr<grpc::Channel> channel_;  // Shared with attempts, which may outlive this.
  TimerThread& timers_;
  const WatchBackoff backoff_;
  GroupEvents& events_;

  absl::Mutex mutex_;
  std::shared_ptr<Attempt> attempt_ ABSL_GUARDED_BY(mutex_);  // Shared with its own running call.
  TimerThread::Id timer_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Duration pause_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace

std::unique_ptr<GroupWatch> WatchGroup(std::shared_ptr<grpc::Channel> channel, TimerThread& timers,
                                       WatchBackoff backoff, GroupEvents& events) {
  auto watch = std::make_unique<GrpcGroupWatch>(std::move(channel), timers, backoff, events);
  watch->Begin();
  return watch;
}

}  // namespace conclave::router
