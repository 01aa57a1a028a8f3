#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "common/status_details.h"
#include "common/wire/grpc_status.h"
#include "tests/unit/router/api/api_rig.h"

// A pass of another model, as a client asks for it.
namespace conclave::router {
namespace {

using ::testing::HasSubstr;
using Event = v1::GenerateResponse;

RigOptions TwoModels() {
  RigOptions options;
  options.other_model = "big";
  return options;
}

// Agents differ, and "big" merges what they say.
v1::GenerateRequest Merged(const std::string& aggregator = "big") {
  v1::GenerateRequest request = Ask(v1::MODE_CONTEMPLATING, 6);
  request.set_model("demo");
  request.mutable_contemplation()->set_aggregation(v1::AGGREGATION_SYNTHESISE);
  request.mutable_contemplation()->set_aggregator_model(aggregator);
  return request;
}

v1::Replay ReplayOf(const v1::Receipt& receipt) {
  v1::Replay replay;
  replay.set_seed(receipt.seed());
  replay.set_time_of_day(receipt.time_of_day());
  replay.set_fingerprint(receipt.fingerprint());
  replay.set_aggregator_fingerprint(receipt.aggregator_fingerprint());
  replay.set_decision_version(receipt.decision_version());
  replay.set_result_hash(receipt.result_hash());
  *replay.mutable_decisions() = receipt.decisions();
  return replay;
}

std::string FieldOf(const grpc::Status& status) {
  const StatusDetails details = DetailsOf(FromGrpc(status));
  return details.fields.empty() ? "" : details.fields[0].first;
}

TEST(AggregatorServiceTest, AnotherModelMergesWhatTheAgentsSay) {
  ApiRig rig(TwoModels());

  const Heard heard = Listen(rig, Merged());

  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_EQ(heard.Answer(), "Answer: merged");
  const v1::Receipt& receipt = heard.completed().receipt();
  EXPECT_EQ(receipt.model(), "demo");
  EXPECT_EQ(receipt.fingerprint(), "f00d");
  EXPECT_EQ(receipt.aggregator_model(), "big");
  EXPECT_EQ(receipt.aggregator_fingerprint(), "beef");
  EXPECT_EQ(heard.events.front().admitted().aggregator_fingerprint(), "beef");
  EXPECT_EQ(receipt.agents_size(), 7);
  EXPECT_FALSE(receipt.counts_from_stream()) << "both groups told what they did";
  for (const AgentRecipe& recipe : rig.worker().recipes()) {
    EXPECT_NE(StageOf(recipe.id), kAggregateStage);
  }
  ASSERT_EQ(rig.other_worker().recipes().size(), 1u);
  EXPECT_EQ(StageOf(rig.other_worker().recipes()[0].id), kAggregateStage);
  EXPECT_TRUE(rig.worker().AwaitOpenFamilies(0));
  EXPECT_TRUE(rig.other_worker().AwaitOpenFamilies(0));
}

TEST(AggregatorServiceTest, AReplayUsesTheSameTwoModels) {
  ApiRig rig(TwoModels());
  const Heard heard = Listen(rig, Merged());
  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  v1::GenerateRequest again = Merged();
  *again.mutable_replay() = ReplayOf(heard.completed().receipt());

  const Heard replayed = Listen(rig, again);

  ASSERT_TRUE(replayed.status.ok()) << replayed.status.error_message();
  EXPECT_EQ(replayed.Answer(), heard.Answer());
  EXPECT_EQ(replayed.completed().receipt().result_hash(),
            heard.completed().receipt().result_hash());
  again.mutable_replay()->set_aggregator_fingerprint("dead");
  EXPECT_EQ(Listen(rig, again).status.error_code(), grpc::StatusCode::ABORTED);
  *again.mutable_replay() = ReplayOf(heard.completed().receipt());
  again.mutable_contemplation()->clear_aggregator_model();
  EXPECT_EQ(Listen(rig, again).status.error_code(), grpc::StatusCode::ABORTED);
}

TEST(AggregatorServiceTest, ItsOwnModelNamedIsNoOther) {
  ApiRig rig(TwoModels());

  const Heard heard = Listen(rig, Merged("demo"));

  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_EQ(heard.completed().receipt().aggregator_model(), "");
  EXPECT_TRUE(rig.other_worker().recipes().empty());
}

TEST(AggregatorServiceTest, AModelThatNobodyServesIsNotFound) {
  ApiRig rig(TwoModels());

  const Heard heard = Listen(rig, Merged("huge"));

  EXPECT_EQ(heard.status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(heard.status.error_message(), HasSubstr("\"huge\" is not served"));
  EXPECT_EQ(FieldOf(heard.status), "contemplation.aggregator_model");
}

TEST(AggregatorServiceTest, AVoteIsNobodysPass) {
  ApiRig rig(TwoModels());
  v1::GenerateRequest request = Merged();
  for (const v1::Aggregation vote : {v1::AGGREGATION_VOTE, v1::AGGREGATION_WEIGHTED_VOTE}) {
    request.mutable_contemplation()->set_aggregation(vote);
    const Heard heard = Listen(rig, request);
    EXPECT_EQ(heard.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(FieldOf(heard.status), "contemplation.aggregator_model");
  }
  request.mutable_contemplation()->set_strategy(v1::STRATEGY_DECOMPOSE);
  EXPECT_TRUE(Listen(rig, request).status.ok()) << "parts are joined by a pass";
}

TEST(AggregatorServiceTest, ALostPassGoesOnWithTheSameText) {
  ApiRig rig(TwoModels());
  rig.other_worker().HoldAfter(2);
  v1::GenerateRequest request = Merged();
  grpc::ClientContext context;
  const auto reader = rig.stub().Generate(&context, request);
  ASSERT_TRUE(rig.other_worker().AwaitTokens(2));
  rig.other_worker().Lose(absl::UnavailableError("killed"));
  rig.other_worker().Release();

  const Heard heard = ReadOut(*reader);

  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_EQ(heard.Answer(), "Answer: merged");
  EXPECT_EQ(heard.completed().receipt().resumes(), 1);
  for (const FamilyOpening& opening : rig.other_worker().openings()) {
    EXPECT_EQ(opening.fingerprint, "beef");
  }
}

TEST(AggregatorServiceTest, WhereNoneOfItsGroupsHasRoomTheVoteAnswers) {
  RigOptions options = TwoModels();
  options.service.place_patience = absl::Milliseconds(20);
  ApiRig rig(options);
  rig.other_worker().ReportCredits(0);
  v1::GenerateRequest request = Merged();
  request.mutable_contemplation()->mutable_patience()->set_nanos(50'000'000);

  const Heard heard = Listen(rig, request);

  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_EQ(heard.completed().method(), v1::AGGREGATION_VOTE);
  EXPECT_TRUE(heard.completed().incomplete());
  ASSERT_EQ(heard.completed().receipt().decisions_size(), 1);
  EXPECT_EQ(heard.completed().receipt().decisions(0).kind(), v1::Decision::KIND_DROP);
  EXPECT_TRUE(rig.other_worker().recipes().empty());
}

}  // namespace
}  // namespace conclave::router
