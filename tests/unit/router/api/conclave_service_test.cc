#include "router/api/conclave_service.h"

#include <absl/synchronization/notification.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "common/status_details.h"
#include "common/wire/grpc_status.h"
#include "tests/unit/router/api/api_rig.h"
#include "tests/unit/router/api/held.h"

namespace conclave::router {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using Event = v1::GenerateResponse;

TEST(ConclaveServiceTest, AnInstantQuestionIsAnsweredByOneAgent) {
  ApiRig rig;

  const Heard heard = Listen(rig, Ask(v1::MODE_INSTANT));

  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_EQ(heard.Answer(), "Answer: 0");
  EXPECT_EQ(heard.events.front().admitted().agents(), 1);
  EXPECT_EQ(heard.events.front().admitted().mode(), v1::MODE_INSTANT);
  EXPECT_EQ(heard.events.front().admitted().fingerprint(), "f00d");
  EXPECT_EQ(heard.CountOf(Event::kAgentStarted), 1);
  EXPECT_EQ(heard.CountOf(Event::kVoteUpdate), 0);
  EXPECT_EQ(heard.completed().method(), v1::AGGREGATION_UNSPECIFIED);
  EXPECT_EQ(rig.worker().recipes().front().thinking, Thinking::kOff);
}

TEST(ConclaveServiceTest, AModelThatThinksThinksByDefault) {
  ApiRig rig;
  v1::GenerateRequest request = Ask(v1::MODE_UNSPECIFIED);
  request.add_include(v1::INCLUDE_THINKING);

  const Heard heard = Listen(rig, request);

  EXPECT_EQ(heard.events.front().admitted().mode(), v1::MODE_THINKING);
  EXPECT_EQ(rig.worker().recipes().front().thinking, Thinking::kOn);
  std::string thinking;
  for (const auto& event : heard.events) thinking += event.agent_delta().thinking();
  EXPECT_EQ(thinking, "well let me see now");
}

TEST(ConclaveServiceTest, AgentsVoteAndSiblingsAreCutWhenTheVoteIsSettled) {
  ApiRig rig({}, [](AgentId agent) {
    FakeSpeech speech = ThirdOfIndex(agent);
    // The last agents say the same for much longer.
    if (IndexOf(agent) >= 3) speech.thinking.resize(40, "hm ");
    speech.answer.back() = "12";
    return speech;
  });
  v1::GenerateRequest request = Ask(v1::MODE_CONTEMPLATING, 5);
  request.add_include(v1::INCLUDE_VOTES);

  const Heard heard = Listen(rig, request);

  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_EQ(heard.Answer(), "Answer: 12");
  EXPECT_EQ(heard.completed().method(), v1::AGGREGATION_VOTE);
  EXPECT_EQ(heard.CountOf(Event::kAgentStarted), 5);
  EXPECT_EQ(heard.CountOf(Event::kAgentFinished), 3);
  EXPECT_EQ(heard.CountOf(Event::kAgentCut), 2);
  EXPECT_EQ(heard.CountOf(Event::kVoteUpdate), 3);
  const v1::Receipt& receipt = heard.completed().receipt();
  EXPECT_EQ(receipt.agents_cut(), 2);
  EXPECT_EQ(receipt.agents_size(), 5);
  EXPECT_EQ(receipt.votes(0).answer(), "12");
  EXPECT_EQ(receipt.votes(0).count(), 3);
  EXPECT_EQ(receipt.prompt().total(), 50);
  EXPECT_EQ(receipt.prompt().computed() + receipt.prompt().shared(), 50);
  int64_t kept = 0;
  for (const v1::AgentUsage& agent : receipt.agents()) kept += agent.kept();
  EXPECT_EQ(kept, receipt.thinking_tokens() + receipt.answer_tokens());
}

TEST(ConclaveServiceTest, WithoutALeaderTheModelMergesTheAnswers) {
  ApiRig rig({}, [](AgentId agent) {
    FakeSpeech speech = ThirdOfIndex(agent);
    if (StageOf(agent) == kThinkStage) speech.answer.back() = std::to_string(IndexOf(agent));
    return speech;
  });

  const Heard heard = Listen(rig, Ask(v1::MODE_CONTEMPLATING, 4));

  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_EQ(heard.CountOf(Event::kAggregationStarted), 1);
  EXPECT_EQ(heard.completed().method(), v1::AGGREGATION_SYNTHESISE);
  EXPECT_EQ(heard.Answer(), "Answer: merged");
  const AgentRecipe merger = rig.worker().recipes().back();
  EXPECT_EQ(StageOf(merger.id), kAggregateStage);
}

TEST(ConclaveServiceTest, TheUnaryFormGivesTheSameAnswerAndReceipt) {
  ApiRig rig;
  const Heard heard = Listen(rig, Ask(v1::MODE_CONTEMPLATING, 6));
  grpc::ClientContext context;
  v1::GenerateOnceRequest once;
  *once.mutable_request() = Ask(v1::MODE_CONTEMPLATING, 6);
  v1::GenerateOnceResponse response;

  const grpc::Status status = rig.stub().GenerateOnce(&context, once, &response);

  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.completed().answer(), heard.completed().answer());
  EXPECT_EQ(response.completed().receipt().result_hash(),
            heard.completed().receipt().result_hash());
  EXPECT_FALSE(response.completed().receipt().result_hash().empty());
}

TEST(ConclaveServiceTest, AnAnswerThatTheUnaryFormWouldCutIsRefusedThereAndStreamedWhole) {
  const auto speech = [](AgentId) {
    return FakeSpeech{{}, {std::string(3 << 19, 'a'), std::string(3 << 19, 'b')}};
  };
  ApiRig rig({}, speech);
  grpc::ClientContext context;
  v1::GenerateOnceRequest once;
  *once.mutable_request() = Ask(v1::MODE_INSTANT);
  v1::GenerateOnceResponse response;

  const grpc::Status status = rig.stub().GenerateOnce(&context, once, &response);

  EXPECT_EQ(status.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_THAT(status.error_message(), HasSubstr("has 3145728 bytes; GenerateOnce gives at most"));
  grpc::ClientContext streamed;
  const auto reader = rig.stub().Generate(&streamed, Ask(v1::MODE_INSTANT));
  size_t answer = 0;
  for (Event event; reader->Read(&event);) answer += event.answer_delta().text().size();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(answer, size_t{3} << 20);
}

TEST(ConclaveServiceTest, TheStreamCarriesOnlyWhatTheRequestIncludes) {
  ApiRig rig;
  const Heard bare = Listen(rig, Ask(v1::MODE_CONTEMPLATING, 3));
  EXPECT_EQ(bare.CountOf(Event::kAgentDelta), 0);
  EXPECT_EQ(bare.CountOf(Event::kVoteUpdate), 0);

  v1::GenerateRequest request = Ask(v1::MODE_CONTEMPLATING, 3);
  request.add_include(v1::INCLUDE_AGENT_ANSWERS);
  const Heard answers = Listen(rig, request);
  EXPECT_GT(answers.CountOf(Event::kAgentDelta), 0);
  for (const auto& event : answers.events) {
    EXPECT_EQ(event.agent_delta().thinking(), "");
    EXPECT_EQ(event.agent_delta().tokens_size(), 0);
  }

  request.add_include(v1::INCLUDE_TOKENS);
  const Heard tokens = Listen(rig, request);
  std::map<uint32_t, int> count;
  for (const auto& event : tokens.events) count[event.agent()] += event.agent_delta().tokens_size();
  EXPECT_EQ(count[0], 8);
}

TEST(ConclaveServiceTest, TokensAreToldOfEveryAgentAndOfTheAggregationPass) {
  ApiRig rig;
  v1::GenerateRequest request = Ask(v1::MODE_CONTEMPLATING, 3);
  request.mutable_contemplation()->set_aggregation(v1::AGGREGATION_SYNTHESISE);
  request.set_top_logprobs(4);

  const Heard heard = Listen(rig, request);

  std::map<uint32_t, std::string> said;
  for (const auto& event : heard.events) {
    for (const v1::Token& token : event.agent_delta().tokens()) {
      EXPECT_EQ(token.top_size(), 4);
      EXPECT_EQ(token.top(0).text(), token.text());
      said[event.agent()] += token.text();
    }
  }
  EXPECT_EQ(said.size(), 4u);
  const auto pass = static_cast<uint32_t>(MakeAgentId(kAggregateStage, 0, 0));
  EXPECT_NE(said[pass].find(heard.Answer()), std::string::npos) << said[pass];
}

TEST(ConclaveServiceTest, TheEndSaysWhatWasUsed) {
  ApiRig rig;
  v1::GenerateRequest request = Ask(v1::MODE_CONTEMPLATING, 3);
  request.mutable_sampling()->set_top_k(7);
  request.mutable_budget()->set_min_tokens(2);
  request.add_stop_tokens(9);

  const Heard heard = Listen(rig, request);

  const v1::Settings& settings = heard.completed().settings();
  EXPECT_EQ(settings.sampling().top_k(), 7);
  EXPECT_TRUE(settings.sampling().has_temperature());
  EXPECT_EQ(settings.min_tokens(), 2);
  EXPECT_EQ(settings.stop_tokens(0), 9);
  EXPECT_EQ(rig.worker().recipes()[0].stop_tokens, std::vector<TokenId>{9});
  EXPECT_EQ(rig.worker().recipes()[0].budget.min_tokens, 2);
  for (const v1::AgentUsage& agent : heard.completed().receipt().agents()) {
    EXPECT_EQ(agent.cut(), agent.cut_reason() != v1::CUT_REASON_UNSPECIFIED);
    EXPECT_EQ(agent.cut(), !agent.has_stopped_by());
  }
}

TEST(ConclaveServiceTest, ASeedAndAnIdAreDrawnAndEchoedWhenMissing) {
  ApiRig rig;
  v1::GenerateRequest request = Ask(v1::MODE_INSTANT);
  request.clear_seed();
  const v1::Admitted first = Listen(rig, request).events.front().admitted();
  const v1::Admitted second = Listen(rig, request).events.front().admitted();
  EXPECT_NE(first.seed(), second.seed());
  EXPECT_NE(first.request_id(), second.request_id());
  EXPECT_FALSE(first.request_id().empty());
  EXPECT_EQ(rig.worker().openings()[0].seed, first.seed());

  request.set_seed(9);
  request.set_request_id("mine-1");
  const Heard heard = Listen(rig, request);
  EXPECT_EQ(heard.events.front().admitted().seed(), 9u);
  EXPECT_EQ(heard.completed().receipt().seed(), 9u);
  EXPECT_EQ(heard.completed().receipt().request_id(), "mine-1");
}

TEST(ConclaveServiceTest, ARefusalSaysWhatIsWrongToPeopleAndPrograms) {
  ApiRig rig;
  v1::GenerateRequest request = Ask(v1::MODE_CONTEMPLATING, 65);
  request.set_request_id("mine-2");

  const Heard heard = Listen(rig, request);

  EXPECT_TRUE(heard.events.empty());
  EXPECT_EQ(heard.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(heard.status.error_message(), "contemplation.max_agents is 65; it can be 1 to 64");
  const StatusDetails details = DetailsOf(FromGrpc(heard.status));
  ASSERT_EQ(details.fields.size(), 1u);
  EXPECT_EQ(details.fields[0].first, "contemplation.max_agents");
  EXPECT_FALSE(details.request_id.empty());
}

TEST(ConclaveServiceTest, AnUnknownModelIsNotFound) {
  ApiRig rig;
  v1::GenerateRequest request = Ask(v1::MODE_INSTANT);
  request.set_model("nobody");

  const Heard heard = Listen(rig, request);

  EXPECT_EQ(heard.status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_THAT(heard.status.error_message(), HasSubstr("\"nobody\" is not served"));
}

TEST(ConclaveServiceTest, BeyondTheLimitRequestsAreTurnedAwayWithATimeToComeBack) {
  RigOptions options;
  options.admission.max_requests = 1;
  options.admission.max_queued = 0;
  ApiRig rig(options);
  rig.worker().HoldAfter(2);
  grpc::ClientContext context;
  const auto first = rig.stub().Generate(&context, Ask(v1::MODE_INSTANT));
  ASSERT_TRUE(rig.worker().AwaitTokens(2));

  const Heard second = Listen(rig, Ask(v1::MODE_INSTANT));

  EXPECT_EQ(second.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_TRUE(DetailsOf(FromGrpc(second.status)).retry_after.has_value());
  rig.worker().Release();
  EXPECT_TRUE(ReadOut(*first).status.ok());
}

TEST(ConclaveServiceTest, AClientThatGoesAwayFreesEverything) {
  ApiRig rig;
  rig.worker().HoldAfter(3);
  {
    grpc::ClientContext context;
    const auto reader = rig.stub().Generate(&context, Ask(v1::MODE_CONTEMPLATING, 8));
    ASSERT_TRUE(rig.worker().AwaitTokens(24));
    context.TryCancel();
    EXPECT_EQ(ReadOut(*reader).status.error_code(), grpc::StatusCode::CANCELLED);
  }
  EXPECT_TRUE(rig.worker().AwaitOpenFamilies(0));
}

TEST(ConclaveServiceTest, TheCallsOwnDeadlineFreesEverything) {
  ApiRig rig;
  rig.worker().HoldAfter(3);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(200));
  const auto reader = rig.stub().Generate(&context, Ask(v1::MODE_CONTEMPLATING, 8));

  EXPECT_EQ(ReadOut(*reader).status.error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(rig.worker().AwaitOpenFamilies(0));
}

TEST(ConclaveServiceTest, AtTheRequestsDeadlineTheBestAnswerSoFarIsGiven) {
  ApiRig rig({}, [](AgentId agent) {
    FakeSpeech speech = ThirdOfIndex(agent);
    if (IndexOf(agent) > 0) speech.thinking.resize(50, "hm ");
    return speech;
  });
  rig.worker().HoldAfter(20);  // Agent 0 is done by then, the others are not.
  v1::GenerateRequest request = Ask(v1::MODE_CONTEMPLATING, 4);
  request.mutable_budget()->mutable_deadline()->set_seconds(600);

  const Heard heard = ListenPastTheDeadline(rig, request, /*agent=*/0, 20);

  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_EQ(heard.Answer(), "Answer: 0");
  EXPECT_EQ(heard.CountOf(Event::kDecision), 1);
  EXPECT_EQ(heard.CountOf(Event::kAgentCut), 3);
  const v1::Receipt& receipt = heard.completed().receipt();
  ASSERT_EQ(receipt.decisions_size(), 1);
  EXPECT_EQ(receipt.decisions(0).kind(), v1::Decision::KIND_DEADLINE);
  EXPECT_EQ(receipt.agents_cut(), 3);
}

TEST(ConclaveServiceTest, AClientThatNeverReadsStallsNobodyAndIsSentAway) {
  RigOptions options;
  options.service.client_stall = absl::ZeroDuration();
  ApiRig rig(options, [](AgentId) {
    return FakeSpeech{std::vector<std::string>(50, std::string(4096, 'x')), {"Answer: 1"}};
  });
  v1::GenerateRequest loud = Ask(v1::MODE_CONTEMPLATING, 8);
  loud.add_include(v1::INCLUDE_THINKING);
  loud.mutable_contemplation()->set_stop_rule(v1::STOP_RULE_NONE);
  grpc::ClientContext context;
  const auto silent = rig.stub().Generate(&context, loud);
  ASSERT_TRUE(rig.worker().AwaitTokens(8 * 51));

  // Another client is served meanwhile, and the silent one's agents have long ended.
  EXPECT_EQ(Listen(rig, Ask(v1::MODE_INSTANT)).Answer(), "Answer: 1");
  ASSERT_TRUE(rig.worker().AwaitOpenFamilies(0));

  rig.rpc().Sweep();
  v1::GenerateResponse event;
  while (silent->Read(&event)) {
  }
  EXPECT_EQ(silent->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST(ConclaveServiceTest, ModelsAreListedWithTheirGroupsAndModes) {
  ApiRig rig;
  grpc::ClientContext context;
  v1::ListModelsResponse response;

  ASSERT_TRUE(rig.stub().ListModels(&context, {}, &response).ok());

  ASSERT_EQ(response.models_size(), 1);
  EXPECT_EQ(response.models(0).description().name(), "demo");
  EXPECT_EQ(response.models(0).description().fingerprint(), "f00d");
  EXPECT_EQ(response.models(0).groups_ready(), 1);
  EXPECT_EQ(response.models(0).modes_size(), 3);
  EXPECT_EQ(response.models(0).max_agents(), 64);
}

TEST(ConclaveServiceTest, RequestsAreLoggedByIdAndTheirTextsNever) {
  ApiRig rig;
  v1::GenerateRequest request = Ask(v1::MODE_CONTEMPLATING, 3);
  request.set_request_id("seen-1");
  Listen(rig, request);

  std::string all;
  for (const std::string& line : rig.log()) all += line + "\n";
  EXPECT_THAT(all, HasSubstr("seen-1"));
  EXPECT_EQ(all.find("PRIVATE"), std::string::npos);
  EXPECT_EQ(all.find("Answer"), std::string::npos);
}

// Of two tenants that wait, the one comes first that used less, not the one that asked for less.
TEST(ConclaveServiceTest, ARequestThatIsLeftCountsWithWhatItUsedAndNotWithItsEstimate) {
  RigOptions options = WithTenants({"left", "other", "third"});
  options.admission.max_requests = 1;
  ApiRig rig(options, SpeechOf(100));
  rig.worker().HoldAfter(6);
  v1::GenerateRequest request = Ask(v1::MODE_INSTANT);
  request.mutable_budget()->set_answer_tokens(4000);
  request.add_include(v1::INCLUDE_TOKENS);
  grpc::ClientContext context;
  context.AddMetadata("authorization", "Bearer left");
  const auto reader = rig.stub().Generate(&context, request);
  int heard = 0;
  for (v1::GenerateResponse event; heard < 6 && reader->Read(&event);) {
    heard += event.agent_delta().tokens_size();
  }
  EXPECT_EQ(heard, 6);
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(rig.worker().AwaitOpenFamilies(0));

  Admission& admission = rig.admission();
  std::optional<Ticket> held;
  absl::Notification left;
  admission.Admit({.tenant = "other", .agents = 1, .tokens = 1000}, rig.clock().Now(),
                  [&](absl::StatusOr<Ticket> ticket) {
                    held = *std::move(ticket);
                    left.Notify();
                  });
  left.WaitForNotification();
  held.reset();
  admission.Admit({.tenant = "third", .agents = 1, .tokens = 1}, rig.clock().Now(),
                  [&](absl::StatusOr<Ticket> ticket) { held = *std::move(ticket); });
  std::vector<std::string> order;
  for (const char* tenant : {"other", "left"}) {
    admission.Admit({.tenant = tenant, .agents = 1, .tokens = 1}, rig.clock().Now(),
                    [&order, tenant](const auto&) { order.emplace_back(tenant); });
  }
  held.reset();
  EXPECT_THAT(order, testing::ElementsAre("left", "other"));
}

}  // namespace
}  // namespace conclave::router
