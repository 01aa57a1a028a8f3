#pragma once

#include <grpcpp/grpcpp.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/wire/family_wire.h"
#include "conclave/v1/worker.grpc.pb.h"
#include "tests/fakes/fake_step_runner.h"
#include "worker/service/worker_server.h"
#include "worker/service/worker_service.h"

namespace conclave::worker {

// The worker API over a fake group that speaks with the shipped model's tokenizer: what a router
// sees. Every agent thinks `kThought` and answers its index; a copy of it that is asked answers a
// digit, the last one of the index of the token.
class ServiceRig {
 public:
  struct Options {
    ServiceOptions service = {};
    int max_slots = 16;
    int answer_tokens = 0;  // Instead of its index, an agent answers with so many tokens.
    int thoughts = 1;       // It thinks kThought so many times.
    bool hold = false;      // Steps wait until they are released.
  };
  explicit ServiceRig(Options options);
  ServiceRig() : ServiceRig(Options{}) {}
  ~ServiceRig();

  v1::WorkerService::Stub& stub() { return *stub_; }
  std::shared_ptr<grpc::Channel> channel() { return channel_; }
  FakeStepRunner& runner() { return *runner_; }
  WorkerService& service() { return *service_; }
  const ModelDescription& model() const { return model_; }
  const TextModel& text() const { return *text_; }
  std::string answer(int index) const;  // Of the agent.
  bool AwaitLost();                     // The hook was called, within a minute.

 private:
  std::unique_ptr<TextModel> text_;
  std::unique_ptr<FakeStepRunner> runner_;
  ModelDescription model_;
  RealClock clock_;
  Metrics metrics_;
  std::unique_ptr<Engine> engine_;
  absl::Mutex mutex_;
  bool lost_ ABSL_GUARDED_BY(mutex_) = false;
  std::unique_ptr<WorkerService> service_;
  WorkerServer server_;
  std::shared_ptr<grpc::Channel> channel_;  // Shared, as gRPC hands it out.
  std::unique_ptr<v1::WorkerService::Stub> stub_;
};

inline constexpr char kThought[] = "some thoughts about it";

FamilyOpening Opening();
AgentRecipe Recipe(int index);
std::vector<AgentRecipe> Recipes(int count);

// A router's end of one family's stream. Events are checked as they come: tokens of an agent
// without gaps, nothing after its end, nothing after the family's.
class RouterStream {
 public:
  explicit RouterStream(ServiceRig& rig) : stream_(rig.stub().Run(&context_)) {}
  ~RouterStream() { context_.TryCancel(); }

  bool Send(const FamilyCommand& command) { return stream_->Write(ToWire(command)); }
  bool SendRaw(const v1::RunRequest& request) { return stream_->Write(request); }
  void HalfClose() { stream_->WritesDone(); }
  void Break() { context_.TryCancel(); }
  // The next event; false: there are no more.
  bool Next();
  // Reads until one arrives.
  template <typename T>
  bool NextOf() {
    while (Next()) {
      if (std::holds_alternative<T>(event)) return true;
    }
    return false;
  }
  // Reads to the end of the stream.
  grpc::Status Finish();

  struct Agent {
    std::vector<TextToken> tokens;  // Those that arrived here.
    std::string thinking, answer;
    std::optional<AgentEnding> end;
    int first = 0;                                    // Index of the first of them.
    std::vector<std::pair<ProbeResult, int>> probes;  // And how many tokens had arrived before.
  };
  FamilyEvent event;
  std::map<AgentId, Agent> agents;
  std::vector<std::string> answers;  // "accepted 3", "refused 2: why", in order.
  std::optional<FamilyTotals> totals;

 private:
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::RunRequest, v1::RunResponse>> stream_;
};

}  // namespace conclave::worker
