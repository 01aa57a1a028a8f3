#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <initializer_list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "conclave/v1/conclave.grpc.pb.h"
#include "router/api/conclave_service.h"
#include "tests/fakes/fake_worker.h"

namespace conclave::router {

struct RigOptions {
  ServiceOptions service = {};
  AdmissionOptions admission = {};
  int credits = 64;
  std::string model = "demo";
  std::string other_model = {};  // Of a second group; empty: there is none.
};

// Of tenants whose name is their key.
RigOptions WithTenants(std::initializer_list<const char*> names);

// The machine's time, and what a test lets pass on top: a deadline of minutes comes when it should.
// Whoever waits for it looks at its next event. Thread-safe.
class LeapingClock : public Clock {
 public:
  absl::Time Now() override { return absl::Now() + absl::Nanoseconds(leapt_.load()); }
  void Leap(absl::Duration by) { leapt_ += absl::ToInt64Nanoseconds(by); }

 private:
  std::atomic<int64_t> leapt_{0};
};

// The public API over a fake worker group or two, in one process: what a client sees.
class ApiRig {
 public:
  // Agents answer "Answer: N", where N is their index divided by three, after five thoughts.
  explicit ApiRig(RigOptions options = {});
  ApiRig(RigOptions options, std::function<FakeSpeech(AgentId)> speech);
  ~ApiRig();

  v1::ConclaveService::Stub& stub() { return *stub_; }
  std::shared_ptr<grpc::Channel> channel() { return channel_; }
  FakeWorker& worker() { return *worker_; }
  FakeWorker& other_worker() { return *other_worker_; }  // REQUIRES: there is one.
  ConclaveRpc& rpc() { return *rpc_; }
  Admission& admission() { return admission_; }
  Metrics& metrics() { return metrics_; }
  LeapingClock& clock() { return clock_; }
  std::vector<std::string> log() const;

 private:
  mutable absl::Mutex mutex_;
  std::vector<std::string> log_ ABSL_GUARDED_BY(mutex_);
  LeapingClock clock_;
  Metrics metrics_;
  TimerThread timers_;
  FakeWorker* worker_ = nullptr;
  FakeWorker* other_worker_ = nullptr;
  Keys keys_;
  Admission admission_;
  std::unique_ptr<Fleet> fleet_;
  std::unique_ptr<TaskPool> tasks_;
  std::unique_ptr<ConclaveRpc> rpc_;
  std::unique_ptr<grpc::Server> server_;
  std::shared_ptr<grpc::Channel> channel_;  // Shared, as gRPC hands it out.
  std::unique_ptr<v1::ConclaveService::Stub> stub_;
};

// What one stream said.
struct Heard {
  std::vector<v1::GenerateResponse> events;
  grpc::Status status;

  int CountOf(v1::GenerateResponse::EventCase kind) const;
  std::string Answer() const;  // The answer's deltas, joined.
  const v1::Completed& completed() const { return events.back().completed(); }
};

FakeSpeech ThirdOfIndex(AgentId agent);

v1::GenerateRequest Ask(v1::Mode mode, int agents = 0);
// Reads a stream to its end, and checks what holds of every stream: sequence numbers without gaps,
// Admitted first, Completed exactly once and last when the status is OK and never otherwise.
Heard Listen(ApiRig& rig, const v1::GenerateRequest& request);
// The same; when the agent's end was told, the request's deadline comes. REQUIRES: the worker holds
// the others after `tokens` tokens, and the deadline is minutes away.
Heard ListenPastTheDeadline(ApiRig& rig, const v1::GenerateRequest& request, uint32_t agent,
                            int tokens);
Heard ReadOut(grpc::ClientReader<v1::GenerateResponse>& reader);

}  // namespace conclave::router
