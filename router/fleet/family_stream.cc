#include "router/fleet/family_stream.h"

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <grpcpp/generic/generic_stub.h>

#include <deque>
#include <utility>

#include "common/status.h"
#include "common/wire/family_wire.h"
#include "common/wire/grpc_status.h"
#include "common/wire/raw_message.h"
#include "conclave/v1/worker.grpc.pb.h"

namespace conclave::router {
namespace {

// The reactor of one Run stream. It owns itself until OnDone; the handle shares it, so that a
// command that comes after the end finds something to be ignored by. A hold keeps the call open for
// commands from outside: from the start until the stream is closed and no write is under way.
// Answers are read as bytes, so that one that is none is told from the end.
class FamilyStream : public grpc::ClientBidiReactor<v1::RunRequest, grpc::ByteBuffer> {
 public:
  explicit FamilyStream(std::shared_ptr<FamilyEvents> events) : events_(std::move(events)) {}

  static void Start(std::shared_ptr<FamilyStream> stream,
                    const std::shared_ptr<grpc::Channel>& channel, FamilyOpening opening) {
    stream->self_ = stream;
    grpc::TemplatedGenericStub<v1::RunRequest, grpc::ByteBuffer>(channel).PrepareBidiStreamingCall(
        &stream->context_, "/conclave.v1.WorkerService/Run", {}, stream.get());
    stream->AddHold();
    stream->StartRead(&stream->bytes_);
    stream->Push(FamilyCommand(std::move(opening)));
    stream->StartCall();
  }

  void Push(const FamilyCommand& command) {
    v1::RunRequest* next = nullptr;
    {
      absl::MutexLock lock(&mutex_);
      if (closed_ || finished_) return;
      requests_.push_back(ToWire(command));
      if (!writing_) next = &requests_.front();
      writing_ = true;
    }
    if (next != nullptr) StartWrite(next);
  }

  void Finish() {
    {
      absl::MutexLock lock(&mutex_);
      if (closed_ || finished_) return;
      finished_ = true;
      if (writing_) return;
      writing_ = true;
    }
    StartWritesDone();
  }

  // No event is delivered after it returns.
  void Detach() {
    {
      absl::MutexLock lock(&mutex_);
      detached_ = true;
      mutex_.Await(absl::Condition(this, &FamilyStream::Quiet));
    }
    context_.TryCancel();
    Close();
  }

  void OnWriteDone(bool ok) override {
    v1::RunRequest* next = nullptr;
    bool done = false;
    {
      absl::MutexLock lock(&mutex_);
      requests_.pop_front();
      if (!ok) closed_ = true;
      if (closed_) {
        writing_ = false;
      } else if (!requests_.empty()) {
        next = &requests_.front();
      } else if (finished_) {
        done = true;
      } else {
        writing_ = false;
        return;
      }
    }
    if (next != nullptr) {
      StartWrite(next);
    } else if (done) {
      StartWritesDone();
    } else {
      ReleaseHold();
    }
  }

  void OnWritesDoneDone(bool) override {
    {
      absl::MutexLock lock(&mutex_);
      writing_ = false;
      closed_ = true;
    }
    ReleaseHold();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return Close();
    auto event = ReadEvent();
    if (event.ok()) {
      Deliver(*std::move(event));
    } else {
      // Whatever is wrong with it, it is not the request.
      broken_ = DataLoss("the worker's answer can't be read: {}", MessageOf(event.status()));
      context_.TryCancel();
    }
    StartRead(&bytes_);
  }

  void OnDone(const grpc::Status& status) override {
    // The object must live until this call is over, whoever else lets go of it.
    const std::shared_ptr<FamilyStream> self = std::move(self_);
    absl::Status why = broken_.ok() ? FromGrpc(status) : broken_;
    if (why.ok()) why = Unavailable("the stream ended early");
    if (BeginDelivery()) {
      events_->OnLost(std::move(why));
      EndDelivery();
    }
    events_.reset();
  }

 private:
  bool Quiet() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !delivering_; }

  absl::StatusOr<FamilyEvent> ReadEvent() {
    v1::RunResponse response;
    RETURN_IF_ERROR(ReadMessage(bytes_, response));
    return FromWire(response);
  }

  void Close() {
    {
      absl::MutexLock lock(&mutex_);
      closed_ = true;
      if (writing_) return;  // The write's end comes, and lets go.
    }
    ReleaseHold();
  }

  void ReleaseHold() {
    {
      absl::MutexLock lock(&mutex_);
      if (!held_) return;
      held_ = false;
    }
    RemoveHold();
  }

  // False when nobody listens any more, or the last event was delivered.
  bool BeginDelivery() {
    absl::MutexLock lock(&mutex_);
    if (detached_ || ended_) return false;
    delivering_ = true;
    return true;
  }

  void EndDelivery(bool last = false) {
    absl::MutexLock lock(&mutex_);
    delivering_ = false;
    ended_ = ended_ || last;
  }

  void Deliver(FamilyEvent event) {
    if (broken_.ok() && BeginDelivery()) {
      const bool last = std::holds_alternative<FamilyTotals>(event);
      std::visit([this](auto& happened) { Tell(happened); }, event);
      EndDelivery(last);
    }
  }
  void Tell(GangAccepted& gang) { events_->OnAccepted(std::move(gang.agents)); }
  void Tell(GangRefused& gang) {
    events_->OnRefused(std::move(gang.agents), std::move(gang.why), gang.width);
  }
  void Tell(FamilyDelta& delta) { events_->OnDelta(std::move(delta)); }
  void Tell(ProbeResult& probe) { events_->OnProbe(std::move(probe)); }
  void Tell(FamilyTotals& totals) { events_->OnFamilyEnd(totals); }

  grpc::ClientContext context_;
  grpc::ByteBuffer bytes_;  // Of the read in progress.
  absl::Status broken_;     // Read callbacks and OnDone only, which follow each other.
  std::shared_ptr<FamilyEvents> events_;  // Shared with the caller until the last event.
  std::shared_ptr<FamilyStream> self_;    // Shared with the handle; let go in OnDone.

  absl::Mutex mutex_;
  std::deque<v1::RunRequest> requests_ ABSL_GUARDED_BY(mutex_);
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;   // A write, or the half-close, is under way.
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;  // The half-close was asked for.
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;    // Nothing more may be written.
  bool held_ ABSL_GUARDED_BY(mutex_) = true;
  bool detached_ ABSL_GUARDED_BY(mutex_) = false;
  bool delivering_ ABSL_GUARDED_BY(mutex_) = false;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

class GrpcFamilyRun : public FamilyRun {
 public:
  explicit GrpcFamilyRun(std::shared_ptr<FamilyStream> stream) : stream_(std::move(stream)) {}
  ~GrpcFamilyRun() override { stream_->Detach(); }

  void Add(std::vector<AgentRecipe> gang) override { stream_->Push(std::move(gang)); }
  void Cancel(std::vector<AgentId> agents) override {
    stream_->Push(CancelAgents{std::move(agents)});
  }
  void RunTo(std::vector<AgentId> agents, std::vector<int> counts) override {
    stream_->Push(RaiseRunTo{std::move(agents), std::move(counts)});
  }
  void Finish() override { stream_->Finish(); }

 private:
  std::shared_ptr<FamilyStream> stream_;  // Shared with the reactor's own reference.
};

}  // namespace

std::unique_ptr<FamilyRun> OpenFamilyStream(const std::shared_ptr<grpc::Channel>& channel,
                                            FamilyOpening opening,
                                            std::shared_ptr<FamilyEvents> events) {
  auto stream = std::make_shared<FamilyStream>(std::move(events));
  auto run = std::make_unique<GrpcFamilyRun>(stream);
  FamilyStream::Start(std::move(stream), channel, std::move(opening));
  return run;
}

}  // namespace conclave::router
