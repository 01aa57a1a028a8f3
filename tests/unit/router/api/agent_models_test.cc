#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "common/status_details.h"
#include "common/wire/grpc_status.h"
#include "tests/unit/router/api/api_rig.h"

// Agents of several models, as a client asks for them.
namespace conclave::router {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

RigOptions TwoModels() {
  RigOptions options;
  options.other_model = "big";
  return options;
}

v1::GenerateRequest Mixed(int agents = 6) {
  v1::GenerateRequest request = Ask(v1::MODE_CONTEMPLATING, agents);
  v1::Contemplation& how = *request.mutable_contemplation();
  how.set_aggregation(v1::AGGREGATION_VOTE);
  how.set_stop_rule(v1::STOP_RULE_NONE);
  how.add_agent_models("demo");
  how.add_agent_models("big");
  return request;
}

std::string FieldOf(const grpc::Status& status) {
  const StatusDetails details = DetailsOf(FromGrpc(status));
  return details.fields.empty() ? "" : details.fields[0].first;
}

std::set<int> IndicesOf(const FakeWorker& worker) {
  std::set<int> indices;
  for (const AgentRecipe& recipe : worker.recipes()) indices.insert(IndexOf(recipe.id));
  return indices;
}

TEST(AgentModelsServiceTest, EachAgentRunsOnAGroupOfItsModel) {
  ApiRig rig(TwoModels());

  const Heard heard = Listen(rig, Mixed());

  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_THAT(IndicesOf(rig.worker()), ElementsAre(0, 2, 4));
  EXPECT_THAT(IndicesOf(rig.other_worker()), ElementsAre(1, 3, 5));
  ASSERT_EQ(rig.other_worker().openings().size(), 1u);
  EXPECT_EQ(rig.other_worker().openings()[0].fingerprint, "beef");
  EXPECT_EQ(rig.worker().openings()[0].fingerprint, "f00d");
  const v1::Receipt& receipt = heard.completed().receipt();
  EXPECT_THAT(receipt.agent_models(), ElementsAre("demo", "big"));
  EXPECT_THAT(receipt.agent_fingerprints(), ElementsAre("f00d", "beef"));
  EXPECT_THAT(heard.events.front().admitted().agent_fingerprints(), ElementsAre("f00d", "beef"));
  ASSERT_EQ(receipt.agents_size(), 6);
  EXPECT_EQ(receipt.agents(0).model(), "");
  EXPECT_EQ(receipt.agents(1).model(), "big");
  EXPECT_FALSE(receipt.counts_from_stream()) << "both groups told what they did";
  EXPECT_EQ(receipt.decisions_size(), 0);
  EXPECT_TRUE(rig.worker().AwaitOpenFamilies(0));
  EXPECT_TRUE(rig.other_worker().AwaitOpenFamilies(0));
}

TEST(AgentModelsServiceTest, TheModelMayBeLeftOutOrStandFirst) {
  ApiRig rig(TwoModels());
  v1::GenerateRequest request = Mixed();
  request.set_model("demo");
  EXPECT_TRUE(Listen(rig, request).status.ok());
  request.set_model("big");
  const Heard heard = Listen(rig, request);
  EXPECT_EQ(heard.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FieldOf(heard.status), "contemplation.agent_models[0]");
}

TEST(AgentModelsServiceTest, AReplayUsesTheSameModels) {
  ApiRig rig(TwoModels());
  const Heard heard = Listen(rig, Mixed());
  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  const v1::Receipt& receipt = heard.completed().receipt();
  v1::GenerateRequest again = Mixed();
  v1::Replay& replay = *again.mutable_replay();
  replay.set_seed(receipt.seed());
  replay.set_time_of_day(receipt.time_of_day());
  replay.set_fingerprint(receipt.fingerprint());
  *replay.mutable_agent_fingerprints() = receipt.agent_fingerprints();
  replay.set_decision_version(receipt.decision_version());
  replay.set_result_hash(receipt.result_hash());

  const Heard replayed = Listen(rig, again);

  ASSERT_TRUE(replayed.status.ok()) << replayed.status.error_message();
  EXPECT_EQ(replayed.completed().receipt().result_hash(), receipt.result_hash());
  replay.set_agent_fingerprints(1, "dead");
  EXPECT_EQ(Listen(rig, again).status.error_code(), grpc::StatusCode::ABORTED);
  replay.set_agent_fingerprints(0, "dead");
  replay.set_agent_fingerprints(1, "beef");
  EXPECT_EQ(Listen(rig, again).status.error_code(), grpc::StatusCode::ABORTED);
  replay.mutable_agent_fingerprints()->RemoveLast();
  EXPECT_EQ(FieldOf(Listen(rig, again).status), "replay.agent_fingerprints");
}

TEST(AgentModelsServiceTest, AModelThatNobodyServesIsNotFound) {
  ApiRig rig(TwoModels());
  v1::GenerateRequest request = Mixed();
  request.mutable_contemplation()->add_agent_models("huge");

  const Heard heard = Listen(rig, request);

  EXPECT_EQ(heard.status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(heard.status.error_message(), HasSubstr("\"huge\" is not served"));
  EXPECT_EQ(FieldOf(heard.status), "contemplation.agent_models[2]");
}

TEST(AgentModelsServiceTest, ALossOfOneGroupIsResumedOnBothWithTheSameText) {
  ApiRig calm(TwoModels()), rig(TwoModels());
  const Heard undisturbed = Listen(calm, Mixed());
  ASSERT_TRUE(undisturbed.status.ok());
  rig.other_worker().HoldAfter(2);
  rig.worker().HoldAfter(2);
  grpc::ClientContext context;
  const auto reader = rig.stub().Generate(&context, Mixed());
  ASSERT_TRUE(rig.other_worker().AwaitTokens(3 * 2));
  rig.other_worker().Lose(absl::UnavailableError("killed"));
  rig.other_worker().Release();
  rig.worker().Release();

  const Heard heard = ReadOut(*reader);

  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_GT(heard.completed().receipt().resumes(), 0);
  EXPECT_EQ(heard.completed().receipt().result_hash(),
            undisturbed.completed().receipt().result_hash());
  EXPECT_TRUE(rig.worker().AwaitOpenFamilies(0)) << "its stream was let go";
}

TEST(AgentModelsServiceTest, WhereOneModelHasNoRoomTheRequestIsToldWhich) {
  RigOptions options = TwoModels();
  options.service.place_patience = absl::Milliseconds(20);
  ApiRig rig(options);
  rig.other_worker().ReportCredits(0);

  const Heard heard = Listen(rig, Mixed());

  EXPECT_EQ(heard.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(heard.status.error_message(), HasSubstr("fake:2"));
  EXPECT_TRUE(rig.worker().openings().empty()) << "no stream is opened for half a family";
}

TEST(AgentModelsServiceTest, APromptThatOneModelRefusesIsRefused) {
  ApiRig rig(TwoModels());
  rig.other_worker().RefuseNext(absl::InvalidArgumentError("the prompt is too long"), 0);

  const Heard heard = Listen(rig, Mixed());

  EXPECT_EQ(heard.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(heard.status.error_message(), HasSubstr("the prompt is too long"));
}

}  // namespace
}  // namespace conclave::router
