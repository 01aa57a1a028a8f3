// One request run again and again, given its decisions, while others run beside it, more of them
// or fewer: it comes to the same bytes each time.
//
// CONCLAVE_REPLAYS=1000 build/dev/bin/integration_test --gtest_filter='ReplaysTest.*'

#include <absl/synchronization/mutex.h>
#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "conclave/v1/conclave.grpc.pb.h"
#include "tests/integration/cluster.h"
#include "tests/integration/mixed.h"
#include "tests/integration/replay.h"

namespace conclave {
namespace {

int Replays() {
  const char* wanted = std::getenv("CONCLAVE_REPLAYS");
  return wanted == nullptr ? 4 : std::max(1, std::atoi(wanted));
}

struct Answer {
  grpc::Status status;
  v1::Completed completed;
};

Answer Ask(v1::ConclaveService::Stub& stub, const v1::GenerateRequest& request) {
  grpc::ClientContext context;
  v1::GenerateOnceRequest once;
  *once.mutable_request() = request;
  v1::GenerateOnceResponse response;
  Answer answer;
  answer.status = stub.GenerateOnce(&context, once, &response);
  answer.completed = response.completed();
  return answer;
}

// Clients that ask for other things, as many of them as it is told.
class Others {
 public:
  Others(v1::ConclaveService::Stub& stub, int most) : stub_(stub) {
    for (int i = 0; i < most; ++i) threads_.emplace_back([this, i] { Run(i); });
  }
  ~Others() {
    {
      absl::MutexLock lock(&mutex_);
      ending_ = true;
    }
    for (std::thread& thread : threads_) thread.join();
  }

  void Let(int run) {
    absl::MutexLock lock(&mutex_);
    running_ = run;
  }
  int answered() {
    absl::MutexLock lock(&mutex_);
    return answered_;
  }

 private:
  void Run(int client) {
    for (int number = 1000 * (1 + client);; ++number) {
      {
        const auto may = [&] { return ending_ || client < running_; };
        absl::MutexLock lock(&mutex_);
        mutex_.Await(absl::Condition(&may));
        if (ending_) return;
      }
      const Answer answer = Ask(stub_, MixedRequest(number));
      EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
      absl::MutexLock lock(&mutex_);
      ++answered_;
    }
  }

  v1::ConclaveService::Stub& stub_;
  absl::Mutex mutex_;
  int running_ ABSL_GUARDED_BY(mutex_) = 0, answered_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;  // Last: they use the others.
};

class ReplaysTest : public testing::Test {
 protected:
  static constexpr int kMostOthers = 3;

  ReplaysTest() {
    // Not room for all: the request's agents wait for others', and for each other.
    cluster_.StartWorker({"group.max_agents=8"});
    cluster_.StartRouter();
    cluster_.AwaitServed();
    stub_ = v1::ConclaveService::NewStub(
        grpc::CreateChannel(cluster_.RouterAddress(), grpc::InsecureChannelCredentials()));
  }

  // The request, asked while others run, and all of its replays have one hash.
  v1::Receipt ExpectOneHash(v1::GenerateRequest request, const std::string& name) {
    Others others(*stub_, kMostOthers);
    others.Let(kMostOthers);
    request.set_request_id(name);
    const Answer first = Ask(*stub_, request);
    EXPECT_TRUE(first.status.ok()) << first.status.error_message();
    const v1::Receipt& receipt = first.completed.receipt();
    request = ReplayOf(request, receipt);
    request.mutable_replay()->clear_result_hash();  // Compared here.

    int64_t discarded_least = INT64_MAX, discarded_most = 0;
    for (int i = 0; i < Replays() && !HasFailure(); ++i) {
      others.Let(i % (kMostOthers + 1));
      const Answer again = Ask(*stub_, request);
      EXPECT_TRUE(again.status.ok()) << "replay " << i << ": " << again.status.error_message();
      EXPECT_EQ(again.completed.receipt().result_hash(), receipt.result_hash()) << "replay " << i;
      EXPECT_EQ(again.completed.answer(), first.completed.answer()) << "replay " << i;
      const int64_t discarded = again.completed.receipt().discarded_tokens();
      discarded_least = std::min(discarded_least, discarded);
      discarded_most = std::max(discarded_most, discarded);
    }

    fmt::print(
        "{}: {} replays, {} decisions, {} agents, {:.16}; {} to {} tokens discarded; {} others\n",
        name, Replays(), receipt.decisions_size(), receipt.agents_size(), receipt.result_hash(),
        discarded_least, discarded_most, others.answered());
    return receipt;
  }

  static v1::GenerateRequest Request(int kind, int agents) {
    v1::GenerateRequest request = MixedRequest(kind);
    request.mutable_contemplation()->set_max_agents(agents);
    return request;
  }

  Cluster cluster_;
  std::unique_ptr<v1::ConclaveService::Stub> stub_;
};

TEST_F(ReplaysTest, AgentsThatWaitedForOthersAndWereCutWhenItWasSettled) {
  v1::GenerateRequest request = Request(2, 12);
  request.mutable_sampling()->set_temperature(1.5);
  ExpectOneHash(request, "settled");
}

TEST_F(ReplaysTest, AgentsThatTheirCopiesEnd) {
  EXPECT_GT(ExpectOneHash(Request(9, 6), "probes").probe_tokens(), 0);
}

TEST_F(ReplaysTest, RoundsOfRefining) {
  EXPECT_GT(ExpectOneHash(Request(4, 4), "refine").agents_size(), 4) << "all agreed at once";
}

TEST_F(ReplaysTest, AQuestionInParts) {
  EXPECT_EQ(ExpectOneHash(Request(5, 6), "decompose").agents_size(), 1 + 6 + 1);
}

}  // namespace
}  // namespace conclave
