#pragma once

#include <absl/time/time.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "conclave/v1/conclave.grpc.pb.h"

namespace conclave {

// What a client saw of one agent.
struct SeenAgent {
  std::string text;  // Thinking and answer, as they came.
  std::vector<int32_t> tokens;
  std::vector<float> logprobs;  // Of the tokens.
  int started = 0, finished = 0, cut = 0;
};

// What a client saw of one request.
struct Seen {
  grpc::Status status;
  v1::Completed completed;
  std::string answer;  // Its deltas joined.
  std::map<uint32_t, SeenAgent> agents;
  std::vector<v1::Decision> decisions;
  int64_t events = 0;
  int lost = 0, resumed = 0;  // GroupChanged events.
  int lost_in_a_row = 0;      // The most of them without any token between.
  std::string fault;          // The first rule of a stream that was broken; empty: none.
};

// Of the outside world's clock: an event, and when it was read.
using OnEvent = std::function<void(const v1::GenerateResponse& event)>;

// One client. Thread-compatible.
class Asker {
 public:
  explicit Asker(const std::string& address);

  // Asks and reads to the end, looking at every event: sequence numbers count up by one, nothing
  // is told twice, every agent's tokens join without gap, deltas joined are the answer, and the
  // receipt adds up. `on_event` may be empty.
  Seen Ask(const v1::GenerateRequest& request, const OnEvent& on_event = {});

  // The same of a router that has just started: asks again, for at most a minute, as long as it is
  // refused because no group was reached yet.
  Seen AskOnceServed(const v1::GenerateRequest& request);

 private:
  std::unique_ptr<v1::ConclaveService::Stub> stub_;
};

}  // namespace conclave
