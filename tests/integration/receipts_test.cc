// Requests of every kind, read to their ends, stopped, left and run out of time: the sums of their
// bills are what the engine counted, to the token.
//
// CONCLAVE_RECEIPTS=1000 build/dev/bin/integration_test --gtest_filter='ReceiptsTest.*'

#include <absl/synchronization/mutex.h>
#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "conclave/v1/conclave.grpc.pb.h"
#include "tests/integration/cluster.h"
#include "tests/integration/mixed.h"
#include "tests/integration/page.h"

namespace conclave {
namespace {

constexpr int kClients = 4;

int Requests() {
  const char* wanted = std::getenv("CONCLAVE_RECEIPTS");
  return wanted == nullptr ? 48 : std::max(1, std::atoi(wanted));
}

// What a request cost. Tokens are all that its agents produced, whatever became of them.
struct Cost {
  int64_t tokens = 0, probe_tokens = 0, prompt = 0, prompt_computed = 0;

  bool operator==(const Cost&) const = default;
  Cost& operator+=(const Cost& other) {
    tokens += other.tokens;
    probe_tokens += other.probe_tokens;
    prompt += other.prompt;
    prompt_computed += other.prompt_computed;
    return *this;
  }
};

std::ostream& operator<<(std::ostream& out, const Cost& cost) {
  return out << cost.tokens << " tokens, " << cost.probe_tokens << " of probes, " << cost.prompt
             << " of prompts, " << cost.prompt_computed << " computed";
}

Cost CostOf(const v1::Receipt& receipt) {
  return {.tokens = receipt.thinking_tokens() + receipt.answer_tokens() +
                    receipt.aggregation_tokens() + receipt.discarded_tokens(),
          .probe_tokens = receipt.probe_tokens(),
          .prompt = receipt.prompt().total(),
          .prompt_computed = receipt.prompt().computed()};
}

// As the engine counts.
Cost CountedBy(const std::string& worker) {
  const auto of = [page = PageOf(worker)](const char* name) {
    return static_cast<int64_t>(ValueIn(page, fmt::format("conclave_worker_{}_total", name)));
  };
  return {.tokens = of("tokens_sampled") + of("tokens_forced"),
          .probe_tokens = of("probe_tokens"),
          .prompt = of("prompt_tokens"),
          .prompt_computed = of("prompt_tokens_computed")};
}

// What a client does with its request.
enum class Fate { kRead, kStop, kLeave, kDeadline };
constexpr const char* kFates[] = {"read to the end", "stopped", "left", "run out of time"};

// Many more are read than not; so are all kinds.
Fate FateOf(int number) {
  switch (number % 7) {
    case 3:
      return Fate::kStop;
    case 4:
    case 6:
      return Fate::kLeave;
    case 5:
      return Fate::kDeadline;
    default:
      return Fate::kRead;
  }
}

class ReceiptsTest : public testing::Test {
 protected:
  ReceiptsTest() {
    // Not room for all: some wait, join late, or are narrowed.
    cluster_.StartWorker({"group.max_agents=12"});
    cluster_.StartRouter({"log.format=json", "limits.narrow_wait=200ms"});
    cluster_.AwaitServed();
    channel_ = grpc::CreateChannel(cluster_.RouterAddress(), grpc::InsecureChannelCredentials());
  }

  void Ask(int number) {
    const auto stub = v1::ConclaveService::NewStub(channel_);
    const Fate fate = FateOf(number);
    v1::GenerateRequest request = MixedRequest(number);
    request.add_include(v1::INCLUDE_THINKING);
    if (fate == Fate::kDeadline) {
      request.mutable_budget()->mutable_deadline()->set_nanos((20 + number % 400) * 1'000'000);
    }
    grpc::ClientContext context;
    const auto reader = stub->Generate(&context, request);
    int events = 0;
    v1::Completed completed;
    for (v1::GenerateResponse event; reader->Read(&event);) {
      if (event.has_completed()) completed = event.completed();
      if (++events != 1 + number % 29) continue;
      if (fate == Fate::kLeave) context.TryCancel();
      if (fate == Fate::kStop) Stop(*stub, request.request_id());
    }
    const grpc::Status status = reader->Finish();
    absl::MutexLock lock(&mutex_);
    ++fates_[static_cast<size_t>(fate)];
    if (status.ok()) receipts_[request.request_id()] = completed.receipt();
    const bool expected = status.ok() || fate == Fate::kLeave || fate == Fate::kDeadline;
    EXPECT_TRUE(expected) << request.request_id() << ": " << status.error_message();
  }

  static void Stop(v1::ConclaveService::Stub& stub, const std::string& id) {
    grpc::ClientContext context;
    v1::StopRequest request;
    request.set_request_id(id);
    v1::StopResponse response;
    const grpc::Status status = stub.Stop(&context, request, &response);
    EXPECT_TRUE(status.ok() || status.error_code() == grpc::StatusCode::NOT_FOUND)
        << status.error_message();
  }

  void AskAll(int count) {
    std::atomic<int> next{0};
    std::vector<std::thread> clients;
    for (int i = 0; i < kClients; ++i) {
      clients.emplace_back([&] {
        for (int number; (number = next++) < count;) Ask(number);
      });
    }
    for (std::thread& client : clients) client.join();
  }

  // What the router wrote down when requests ended; also of those whose client had left.
  std::map<std::string, Cost> Logged() {
    std::map<std::string, Cost> costs;
    std::istringstream lines(cluster_.router().Output());
    for (std::string line; std::getline(lines, line);) {
      const nlohmann::json said = nlohmann::json::parse(line, nullptr, false);
      if (!said.is_object() || said.value("message", "") != "ended") continue;
      costs[said["request"]] = {.tokens = said["tokens"],
                                .probe_tokens = said["probe_tokens"],
                                .prompt = said["prompt_tokens"],
                                .prompt_computed = said["prompt_computed"]};
    }
    return costs;
  }

  // As the router's metrics have it.
  Cost Billed() const {
    const std::string page = PageOf(cluster_.AddressOf("router", "metrics"));
    const auto of = [&page](const char* name, const char* label, const char* value) {
      return static_cast<int64_t>(ValueIn(
          page, fmt::format("{}{{{}=\"{}\",model=\"conclave-demo\"}}", name, label, value)));
    };
    const auto prompts = [&page](const char* source) {
      return static_cast<int64_t>(ValueIn(
          page, fmt::format("conclave_prompt_tokens_total{{model=\"conclave-demo\",source=\"{}\"}}",
                            source)));
    };
    const int64_t probes = of("conclave_tokens_total", "fate", "probe");
    return {.tokens = static_cast<int64_t>(SumIn(page, "conclave_tokens_total")) - probes,
            .probe_tokens = probes,
            .prompt = prompts("computed") + prompts("shared"),
            .prompt_computed = prompts("computed")};
  }

  Cluster cluster_;
  std::shared_ptr<grpc::Channel> channel_;  // Shared, as gRPC hands it out.
  absl::Mutex mutex_;
  int fates_[4] ABSL_GUARDED_BY(mutex_) = {};
  std::map<std::string, v1::Receipt> receipts_ ABSL_GUARDED_BY(mutex_);
};

TEST_F(ReceiptsTest, SumsAreTheEnginesCountersWhateverBecameOfTheRequests) {
  const Cost before = CountedBy(cluster_.AddressOf("worker", "metrics"));
  ASSERT_EQ(before, Cost{});

  AskAll(Requests());

  // What is left of those whose client is gone comes to its end by itself.
  Cost counted, billed;
  EXPECT_TRUE(Eventually(absl::Seconds(60),
                         [&] {
                           counted = CountedBy(cluster_.AddressOf("worker", "metrics"));
                           billed = Billed();
                           return counted == billed;
                         }))
      << "counted: " << counted << "\nbilled:  " << billed;
  const std::map<std::string, Cost> logged = Logged();
  Cost sum, received;
  for (const auto& [id, cost] : logged) sum += cost;
  absl::MutexLock lock(&mutex_);
  for (const auto& [id, receipt] : receipts_) {
    ASSERT_TRUE(logged.contains(id)) << id;
    EXPECT_EQ(CostOf(receipt), logged.at(id)) << id;
    EXPECT_FALSE(receipt.counts_from_stream()) << id;
    received += CostOf(receipt);
  }
  EXPECT_EQ(sum, counted);
  EXPECT_GT(received.tokens, 0);
  EXPECT_LT(received.tokens, sum.tokens) << "nobody left too early for a receipt";
  EXPECT_GT(received.probe_tokens, 0);
  EXPECT_GT(ValueIn(PageOf(cluster_.AddressOf("worker", "metrics")),
                    "conclave_worker_tokens_forced_total"),
            0);
  fmt::print("{} requests:", Requests());
  for (size_t i = 0; i < 4; ++i) fmt::print(" {} {},", fates_[i], kFates[i]);
  std::ostringstream words;
  words << "\n  counted  " << counted << "\n  billed   " << billed << "\n  logged   " << sum
        << "\n  receipts " << received << " (" << receipts_.size() << ")\n";
  fmt::print("{}", words.str());
}

}  // namespace
}  // namespace conclave
