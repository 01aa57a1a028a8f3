#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "conclave/v1/conclave.grpc.pb.h"
#include "tests/integration/groups.h"
#include "tests/integration/replay.h"

// Agents of one model and a pass of another, and agents of both, through all programs.
namespace conclave {
namespace {

constexpr uint32_t kPass = 1u << 24;

struct Heard {
  grpc::Status status;
  v1::Completed completed;
  v1::Admitted admitted;
  std::map<uint32_t, std::vector<int32_t>> tokens;
  std::map<uint32_t, std::vector<float>> logprobs;
  std::string merged_by;  // As AggregationStarted says.
  const v1::Receipt& receipt() const { return completed.receipt(); }
};

class OtherModelTest : public testing::Test {
 protected:
  OtherModelTest() {
    const std::string models = std::string(CONCLAVE_SOURCE_DIR) + "/models/";
    groups_.Start("agents", {"group.tensor_parallel=1"});
    groups_.Start("merger",
                  {"group.tensor_parallel=1", "model.directory=" + models + "conclave-novice"});
    groups_.StartRouter({fmt::format("workers.addresses=[{},{}]", groups_.AddressOf("agents"),
                                     groups_.AddressOf("merger"))});
    stub_ = v1::ConclaveService::NewStub(
        grpc::CreateChannel(groups_.AddressOf("router"), grpc::InsecureChannelCredentials()));
    const bool ready =
        Eventually(absl::Seconds(120), [this] { return FingerprintsReady().size() == 2; });
    EXPECT_TRUE(ready) << groups_.program("router").Output();
  }

  // By model.
  std::map<std::string, std::string> FingerprintsReady() {
    grpc::ClientContext context;
    v1::ListModelsResponse response;
    std::map<std::string, std::string> ready;
    if (!stub_->ListModels(&context, {}, &response).ok()) return ready;
    for (const v1::Model& model : response.models()) {
      if (model.groups_ready() > 0)
        ready[model.description().name()] = model.description().fingerprint();
    }
    return ready;
  }

  static v1::GenerateRequest Question() {
    v1::GenerateRequest request;
    auto* message = request.add_messages();
    message->set_role(v1::ROLE_USER);
    message->add_parts()->set_text(
        "Tom has 12 apples and buys 3 boxes with 15 apples each. How many apples does Tom have "
        "now?");
    request.set_model("conclave-demo");
    request.set_mode(v1::MODE_CONTEMPLATING);
    request.mutable_contemplation()->set_max_agents(3);
    request.mutable_contemplation()->set_stop_rule(v1::STOP_RULE_NONE);
    request.mutable_contemplation()->set_aggregation(v1::AGGREGATION_SYNTHESISE);
    request.mutable_contemplation()->set_aggregator_model("conclave-novice");
    request.set_seed(17);
    request.add_include(v1::INCLUDE_TOKENS);
    return request;
  }

  Heard Ask(const v1::GenerateRequest& request) {
    Heard heard;
    grpc::ClientContext context;
    const auto reader = stub_->Generate(&context, request);
    v1::GenerateResponse event;
    while (reader->Read(&event)) {
      if (event.has_completed()) heard.completed = event.completed();
      if (event.has_admitted()) heard.admitted = event.admitted();
      if (event.has_aggregation_started()) heard.merged_by = event.aggregation_started().model();
      for (const v1::Token& token : event.agent_delta().tokens()) {
        heard.tokens[event.agent()].push_back(token.id());
        heard.logprobs[event.agent()].push_back(token.logprob());
      }
    }
    heard.status = reader->Finish();
    return heard;
  }

  Groups groups_;
  std::unique_ptr<v1::ConclaveService::Stub> stub_;
};

TEST_F(OtherModelTest, AgentsOfOneModelAreMergedByAnotherAndAReplayGivesTheSameBytes) {
  const std::map<std::string, std::string> fingerprints = FingerprintsReady();
  v1::GenerateRequest request = Question();

  const Heard first = Ask(request);

  ASSERT_TRUE(first.status.ok()) << first.status.error_message();
  const v1::Receipt& receipt = first.receipt();
  EXPECT_EQ(first.completed.method(), v1::AGGREGATION_SYNTHESISE);
  EXPECT_EQ(first.completed.answer(), "57");
  EXPECT_EQ(first.merged_by, "conclave-novice");
  EXPECT_EQ(receipt.model(), "conclave-demo");
  EXPECT_EQ(receipt.fingerprint(), fingerprints.at("conclave-demo"));
  EXPECT_EQ(receipt.aggregator_model(), "conclave-novice");
  EXPECT_EQ(receipt.aggregator_fingerprint(), fingerprints.at("conclave-novice"));
  EXPECT_EQ(first.admitted.aggregator_fingerprint(), receipt.aggregator_fingerprint());
  EXPECT_NE(receipt.fingerprint(), receipt.aggregator_fingerprint());
  EXPECT_GT(receipt.aggregation_tokens(), 0);
  EXPECT_FALSE(receipt.counts_from_stream());
  EXPECT_EQ(receipt.prompt().computed() + receipt.prompt().shared(), receipt.prompt().total());

  request = ReplayOf(request, receipt);
  const Heard again = Ask(request);
  ASSERT_TRUE(again.status.ok()) << again.status.error_message();
  EXPECT_EQ(again.tokens, first.tokens);
  EXPECT_EQ(again.completed.answer(), first.completed.answer());
  EXPECT_EQ(again.receipt().result_hash(), receipt.result_hash());

  request.mutable_replay()->set_aggregator_fingerprint(receipt.fingerprint());
  EXPECT_EQ(Ask(request).status.error_code(), grpc::StatusCode::ABORTED);
}

TEST_F(OtherModelTest, TheAgentsSayWhatTheySayWithoutIt) {
  v1::GenerateRequest alone = Question();
  alone.mutable_contemplation()->clear_aggregator_model();

  const Heard merged = Ask(Question()), own = Ask(alone);

  ASSERT_TRUE(merged.status.ok() && own.status.ok());
  EXPECT_EQ(own.merged_by, "");
  EXPECT_EQ(own.receipt().aggregator_fingerprint(), "");
  for (uint32_t agent = 0; agent < 3; ++agent) {
    EXPECT_EQ(merged.tokens.at(agent), own.tokens.at(agent));
    EXPECT_EQ(merged.logprobs.at(agent), own.logprobs.at(agent));
  }
  // It may say the same, but it is never as sure of each token.
  EXPECT_NE(merged.logprobs.at(kPass), own.logprobs.at(kPass)) << "another model wrote it";
}

// An agent's bits depend on the agent alone: also on who the others are.
TEST_F(OtherModelTest, AgentsOfTwoModelsSayWhatTheySayAmongTheirOwnAndReplay) {
  const std::map<std::string, std::string> fingerprints = FingerprintsReady();
  v1::GenerateRequest request = Question();
  v1::Contemplation& how = *request.mutable_contemplation();
  how.clear_aggregator_model();
  how.set_aggregation(v1::AGGREGATION_VOTE);
  how.set_max_agents(5);
  v1::GenerateRequest own = request, others = request;
  others.set_model("conclave-novice");
  how.add_agent_models("conclave-demo");
  how.add_agent_models("conclave-novice");

  const Heard mixed = Ask(request), demo = Ask(own), novice = Ask(others);

  ASSERT_TRUE(mixed.status.ok()) << mixed.status.error_message();
  ASSERT_TRUE(demo.status.ok() && novice.status.ok());
  for (uint32_t agent = 0; agent < 5; ++agent) {
    const Heard& alone = agent % 2 == 0 ? demo : novice;
    EXPECT_EQ(mixed.tokens.at(agent), alone.tokens.at(agent)) << agent;
    EXPECT_EQ(mixed.logprobs.at(agent), alone.logprobs.at(agent)) << agent;
  }
  const v1::Receipt& receipt = mixed.receipt();
  EXPECT_EQ(receipt.agent_fingerprints(0), fingerprints.at("conclave-demo"));
  EXPECT_EQ(receipt.agent_fingerprints(1), fingerprints.at("conclave-novice"));
  EXPECT_EQ(receipt.agents(3).model(), "conclave-novice");
  EXPECT_EQ(receipt.prompt().computed() + receipt.prompt().shared(), receipt.prompt().total());
  EXPECT_FALSE(receipt.counts_from_stream());

  const Heard again = Ask(ReplayOf(request, receipt));
  ASSERT_TRUE(again.status.ok()) << again.status.error_message();
  EXPECT_EQ(again.tokens, mixed.tokens);
  EXPECT_EQ(again.receipt().result_hash(), receipt.result_hash());
}

TEST_F(OtherModelTest, WhereItsOnlyGroupIsGoneTheVoteAnswers) {
  v1::GenerateRequest request = Question();
  request.mutable_contemplation()->mutable_patience()->set_seconds(1);
  groups_.Kill("merger");

  const Heard heard = Ask(request);

  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_EQ(heard.completed.method(), v1::AGGREGATION_VOTE);
  EXPECT_EQ(heard.completed.answer(), "57");
  EXPECT_TRUE(heard.completed.incomplete());
  ASSERT_EQ(heard.receipt().decisions_size(), 1);
  EXPECT_EQ(heard.receipt().decisions(0).kind(), v1::Decision::KIND_DROP);
}

}  // namespace
}  // namespace conclave
