#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "conclave/v1/conclave.grpc.pb.h"
#include "tests/integration/cluster.h"
#include "tests/integration/page.h"
#include "tests/integration/replay.h"

// Agents that are asked for their answers so far, through all programs.
namespace conclave {
namespace {

struct Heard {
  grpc::Status status;
  v1::Completed completed;
  std::map<uint32_t, std::vector<v1::ProbeAnswer>> probes;  // By agent.
  std::map<uint32_t, std::vector<int32_t>> tokens;
  const v1::Receipt& receipt() const { return completed.receipt(); }
};

class ProbesTest : public testing::Test {
 protected:
  ProbesTest() {
    cluster_.StartWorker();
    cluster_.StartRouter();
    stub_ = v1::ConclaveService::NewStub(
        grpc::CreateChannel(cluster_.RouterAddress(), grpc::InsecureChannelCredentials()));
    cluster_.AwaitServed();
  }

  static v1::GenerateRequest Question(int number) {
    v1::GenerateRequest request;
    auto* message = request.add_messages();
    message->set_role(v1::ROLE_USER);
    message->add_parts()->set_text(
        fmt::format("Tom has {} apples and buys {} boxes with {} apples each. How many apples does "
                    "Tom have now?",
                    10 + number, 3 + number % 4, 12 + number));
    request.set_mode(v1::MODE_CONTEMPLATING);
    request.mutable_contemplation()->set_max_agents(4);
    request.mutable_contemplation()->set_stop_rule(v1::STOP_RULE_NONE);
    request.set_seed(300 + static_cast<uint64_t>(number));
    request.add_include(v1::INCLUDE_TOKENS);
    return request;
  }

  static v1::GenerateRequest Probed(int number) {
    v1::GenerateRequest request = Question(number);
    request.mutable_contemplation()->mutable_probes()->set_every(16);
    request.mutable_contemplation()->mutable_probes()->set_answer_tokens(8);
    return request;
  }

  Heard Ask(const v1::GenerateRequest& request) {
    Heard heard;
    grpc::ClientContext context;
    const auto reader = stub_->Generate(&context, request);
    v1::GenerateResponse event;
    while (reader->Read(&event)) {
      if (event.has_completed()) heard.completed = event.completed();
      if (event.has_probe_answer()) heard.probes[event.agent()].push_back(event.probe_answer());
      if (!event.has_agent_delta()) continue;
      for (const v1::Token& token : event.agent_delta().tokens()) {
        heard.tokens[event.agent()].push_back(token.id());
      }
    }
    heard.status = reader->Finish();
    EXPECT_TRUE(heard.status.ok()) << heard.status.error_message();
    return heard;
  }

  Cluster cluster_;
  std::unique_ptr<v1::ConclaveService::Stub> stub_;
};

TEST_F(ProbesTest, AnswersSoFarAreToldAndBilledToTheToken) {
  int64_t billed = 0;
  size_t told = 0, found = 0;
  for (int number = 0; number < 3; ++number) {
    const Heard heard = Ask(Probed(number));
    int64_t heard_tokens = 0;
    for (const auto& [agent, probes] : heard.probes) {
      for (size_t i = 0; i < probes.size(); ++i) {
        EXPECT_EQ(probes[i].at(), 16 * (static_cast<int>(i) + 1));
        heard_tokens += probes[i].tokens();
        ++told;
        found += probes[i].has_answer() ? 1 : 0;
      }
    }
    EXPECT_GE(heard.receipt().probe_tokens(), heard_tokens);
    billed += heard.receipt().probe_tokens();
  }

  EXPECT_GT(told, 0u);
  EXPECT_GT(found, 0u);
  double counted = 0;
  EXPECT_TRUE(Eventually(absl::Seconds(60),
                         [&] {
                           counted = ValueIn(PageOf(cluster_.AddressOf("worker", "metrics")),
                                             "conclave_worker_probe_tokens_total");
                           return counted == static_cast<double>(billed);
                         }))
      << counted << " counted, " << billed << " billed";
}

TEST_F(ProbesTest, AgentsDrawWhatTheyDrawWithoutBeingAsked) {
  const Heard asked = Ask(Probed(1)), alone = Ask(Question(1));

  EXPECT_FALSE(asked.probes.empty());
  EXPECT_EQ(asked.tokens, alone.tokens);
  EXPECT_EQ(asked.receipt().result_hash(), alone.receipt().result_hash());
  EXPECT_EQ(alone.receipt().probe_tokens(), 0);
}

TEST_F(ProbesTest, WhereCopiesAgreeAgentsEndAndAReplayEndsThereToo) {
  // One whose copies say the same twice before it is through.
  constexpr char kLong[] =
      "Start with 12, then times 7, minus 8, plus 99, times 3. What is the result?";
  v1::GenerateRequest request = Probed(2), unasked = Question(2);
  for (v1::GenerateRequest* each : {&request, &unasked}) {
    each->mutable_messages(0)->mutable_parts(0)->set_text(kLong);
  }
  request.mutable_contemplation()->mutable_probes()->set_agree(2);
  const Heard first = Ask(request), alone = Ask(unasked);
  int earlier = 0;
  for (int i = 0; i < first.receipt().agents_size(); ++i) {
    const v1::AgentUsage& usage = first.receipt().agents(i);
    const auto& whole = alone.tokens.at(usage.agent());
    EXPECT_LE(usage.kept(), static_cast<int>(whole.size()));
    earlier += usage.kept() < static_cast<int>(whole.size()) ? 1 : 0;
  }
  EXPECT_GT(earlier, 0) << "nobody's copies agreed";

  const Heard again = Ask(ReplayOf(request, first.receipt()));

  EXPECT_EQ(again.receipt().result_hash(), first.receipt().result_hash());
  EXPECT_EQ(again.completed.answer(), first.completed.answer());
}

}  // namespace
}  // namespace conclave
