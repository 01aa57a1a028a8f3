#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "common/status_details.h"
#include "common/wire/grpc_status.h"
#include "tests/unit/worker/service/service_rig.h"

// The family's stream as exact_rules has it, over a real connection.
namespace conclave::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

AgentId Id(int index) { return MakeAgentId(0, 0, index); }

TEST(WorkerStreamTest, AFamilyFromItsOpeningToItsEnd) {
  ServiceRig rig;
  RouterStream stream(rig);
  stream.Send(Opening());
  stream.Send(Recipes(3));
  stream.HalfClose();

  const grpc::Status status = stream.Finish();

  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(stream.answers, ElementsAre("accepted 3"));
  ASSERT_EQ(stream.agents.size(), 3u);
  int sampled = 0;
  for (int i = 0; i < 3; ++i) {
    const auto& agent = stream.agents[Id(i)];
    EXPECT_EQ(agent.first, 0);
    EXPECT_THAT(agent.thinking, HasSubstr(kThought));
    EXPECT_EQ(agent.answer, rig.answer(i));
    EXPECT_EQ(agent.tokens.back().text_end,
              static_cast<int64_t>(agent.thinking.size() + agent.answer.size()));
    ASSERT_TRUE(agent.end);
    EXPECT_EQ(agent.end->cause, Finish::kStop);
    EXPECT_EQ(agent.end->sampled + agent.end->forced, static_cast<int>(agent.tokens.size()));
    sampled += agent.end->sampled;
  }
  ASSERT_TRUE(stream.totals);
  EXPECT_EQ(stream.totals->sampled, sampled);
  EXPECT_EQ(stream.totals->prompt_shared, 2 * stream.totals->prompt_computed);
}

TEST(WorkerStreamTest, EveryAddIsAnsweredInOrderAndRefusedIdsMayBeUsedAgain) {
  ServiceRig rig;
  RouterStream stream(rig);
  stream.Send(Opening());
  stream.Send(std::vector<AgentRecipe>{Recipe(0)});
  AgentRecipe wrong = Recipe(1);
  wrong.sampling.logit_bias = {{100'000, 1.0f}};
  stream.Send(std::vector<AgentRecipe>{Recipe(2), wrong});
  AgentRecipe hot = Recipe(1);
  hot.sampling.temperature = -1;
  stream.Send(std::vector<AgentRecipe>{hot});
  stream.Send(std::vector<AgentRecipe>{Recipe(1), Recipe(2)});
  stream.HalfClose();

  EXPECT_TRUE(stream.Finish().ok());

  ASSERT_EQ(stream.answers.size(), 4u);
  EXPECT_EQ(stream.answers[0], "accepted 1");
  EXPECT_THAT(stream.answers[1],
              HasSubstr("refused 2: add.agents[1]: sampling.logit_bias has token 100000"));
  EXPECT_THAT(stream.answers[2], HasSubstr("add.agents[0].sampling.temperature is -1"));
  EXPECT_EQ(stream.answers[3], "accepted 2");
  EXPECT_EQ(stream.agents[Id(1)].answer, "1");
}

std::string TextOf(const std::vector<TextToken>& tokens) {
  std::string text;
  for (const TextToken& token : tokens) text += token.token.told.at(0).text;
  return text;
}

TEST(WorkerStreamTest, TokensAreToldWithTheirTextsForThoseWhoAsk) {
  ServiceRig rig;
  RouterStream stream(rig);
  stream.Send(Opening());
  std::vector<AgentRecipe> recipes = Recipes(3);
  recipes[1].top_logprobs = 0;
  recipes[2].top_logprobs = 5;
  stream.Send(recipes);
  stream.HalfClose();
  EXPECT_TRUE(stream.Finish().ok());

  for (const TextToken& token : stream.agents[Id(0)].tokens) {
    EXPECT_TRUE(token.token.told.empty());
  }
  for (const int i : {1, 2}) {
    const auto& agent = stream.agents[Id(i)];
    const std::vector<TextToken> words(agent.tokens.begin(), agent.tokens.end() - 1);
    EXPECT_THAT(TextOf(words), testing::EndsWith(rig.answer(i)));
    EXPECT_THAT(TextOf(words), HasSubstr(kThought));
    for (const TextToken& token : words) {
      EXPECT_EQ(token.token.told.size(), i == 1 ? 1u : 6u);
      EXPECT_EQ(token.token.told[0].id, token.token.id);
    }
  }
}

// Of copies of an agent with 16, 32, ... tokens of thinking.
TEST(WorkerStreamTest, AnAgentIsAskedForItsAnswerSoFar) {
  ServiceRig rig({.thoughts = 12});
  RouterStream stream(rig);
  stream.Send(Opening());
  std::vector<AgentRecipe> recipes = Recipes(2);
  recipes[0].probe_every = 16;
  recipes[0].probe_tokens = 3;
  stream.Send(recipes);
  stream.HalfClose();
  EXPECT_TRUE(stream.Finish().ok());

  const auto& asked = stream.agents[Id(0)];
  EXPECT_EQ(asked.answer, rig.answer(0));
  EXPECT_TRUE(stream.agents[Id(1)].probes.empty());
  ASSERT_GE(asked.probes.size(), 2u);
  const int forced = static_cast<int>(rig.text().end_of_thinking().size());
  int64_t probed = 0;
  for (size_t i = 0; i < asked.probes.size(); ++i) {
    const auto& [probe, arrived] = asked.probes[i];
    EXPECT_EQ(probe.at, 16 * (static_cast<int>(i) + 1));
    EXPECT_EQ(probe.forced, forced);
    EXPECT_EQ(probe.sampled, 3);
    const int first = probe.at + forced;
    EXPECT_EQ(probe.answer, fmt::format("{}{}{}", first % 10, (first + 1) % 10, (first + 2) % 10));
    EXPECT_LE(probe.logprob_mean, 0);
    EXPECT_LE(arrived, probe.at + 16);
    probed += probe.sampled + probe.forced;
  }
  EXPECT_GE(stream.totals->probed, probed);
  EXPECT_LE(stream.totals->probed, probed + forced + 3);  // The last copy may have been dropped.
  EXPECT_EQ(stream.totals->sampled, static_cast<int64_t>(asked.tokens.size()) +
                                        static_cast<int64_t>(stream.agents[Id(1)].tokens.size()));
}

TEST(WorkerStreamTest, WhatStoppedAnAgentIsSaid) {
  ServiceRig rig;
  RouterStream stream(rig);
  stream.Send(Opening());
  std::vector<AgentRecipe> recipes = Recipes(3);
  const TokenId digit = rig.text().tokenizer().Encode("1")->front();
  recipes[1].stop_tokens = {digit};
  recipes[2].stop = {"2"};
  stream.Send(recipes);
  stream.HalfClose();
  EXPECT_TRUE(stream.Finish().ok());

  const TokenId end = rig.text().end_tokens().front();
  EXPECT_EQ(stream.agents[Id(0)].end->stopped_by,
            (StopCause{.kind = StopCause::Kind::kEndToken, .token = end}));
  EXPECT_EQ(stream.agents[Id(1)].end->stopped_by,
            (StopCause{.kind = StopCause::Kind::kStopToken, .token = digit}));
  EXPECT_EQ(stream.agents[Id(2)].end->stopped_by,
            (StopCause{.kind = StopCause::Kind::kStopText, .text = "2"}));
  for (const int i : {1, 2}) EXPECT_EQ(stream.agents[Id(i)].answer, "");
}

// The fake's agents say their end again and again: it is drawn only where it may be.
TEST(WorkerStreamTest, NobodyEndsBeforeTheMinimum) {
  ServiceRig rig;
  RouterStream stream(rig);
  stream.Send(Opening());
  std::vector<AgentRecipe> recipes = Recipes(2);
  recipes[1].budget.min_tokens = 60;
  stream.Send(recipes);
  stream.HalfClose();
  EXPECT_TRUE(stream.Finish().ok());

  EXPECT_LT(stream.agents[Id(0)].tokens.size(), 60u);
  const std::vector<TextToken>& tokens = stream.agents[Id(1)].tokens;
  ASSERT_EQ(tokens.size(), 61u);
  const TokenId end = rig.text().end_tokens().front();
  for (size_t i = 0; i < 60; ++i) EXPECT_NE(tokens[i].token.id, end);
  EXPECT_EQ(tokens[60].token.id, end);
}

TEST(WorkerStreamTest, AStopTokenThatIsNoneIsRefused) {
  ServiceRig rig;
  RouterStream stream(rig);
  stream.Send(Opening());
  std::vector<AgentRecipe> recipes = Recipes(1);
  recipes[0].stop_tokens = {100'000};
  stream.Send(recipes);
  stream.HalfClose();
  EXPECT_TRUE(stream.Finish().ok());

  EXPECT_THAT(stream.answers, ElementsAre(HasSubstr("stop_tokens has token 100000")));
}

TEST(WorkerStreamTest, AGangWiderThanTheGroupIsToldTheWidthThatFits) {
  ServiceRig rig({.service = {}, .max_slots = 4});
  RouterStream stream(rig);
  stream.Send(Opening());
  stream.Send(Recipes(5));
  ASSERT_TRUE(stream.NextOf<GangRefused>());
  const auto& refused = std::get<GangRefused>(stream.event);
  EXPECT_EQ(refused.why.code(), absl::StatusCode::kOutOfRange);
  EXPECT_EQ(refused.width, 4);
  EXPECT_EQ(refused.agents.size(), 5u);
  stream.Send(Recipes(4));
  ASSERT_TRUE(stream.NextOf<GangAccepted>());
}

TEST(WorkerStreamTest, APromptThatLeavesNoRoomIsRefusedWithTheNumbers) {
  ServiceRig rig;
  RouterStream stream(rig);
  FamilyOpening opening = Opening();
  opening.messages[0].parts[0].text = std::string(8000, '7');
  stream.Send(opening);
  stream.Send(Recipes(1));
  ASSERT_TRUE(stream.NextOf<GangRefused>());
  const auto& refused = std::get<GangRefused>(stream.event);
  EXPECT_EQ(refused.why.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(MessageOf(refused.why)), HasSubstr("tokens; the limit is 1023"));
}

TEST(WorkerStreamTest, ACancelledAgentEndsAndItsSiblingsGoOn) {
  ServiceRig rig({.service = {}, .max_slots = 16, .answer_tokens = 100});
  rig.runner().HoldSteps();
  RouterStream stream(rig);
  stream.Send(Opening());
  stream.Send(Recipes(2));
  rig.runner().ReleaseSteps(10);
  ASSERT_TRUE(stream.NextOf<FamilyDelta>());
  stream.Send(CancelAgents{{Id(1)}});
  stream.Send(CancelAgents{{Id(7)}});  // Nobody.
  stream.HalfClose();
  while (!stream.agents[Id(1)].end) {
    rig.runner().ReleaseSteps(1);
    ASSERT_TRUE(stream.Next());
  }
  rig.runner().ReleaseAllSteps();
  EXPECT_TRUE(stream.Finish().ok());
  EXPECT_EQ(stream.agents[Id(1)].end->cause, Finish::kCancelled);
  EXPECT_EQ(stream.agents[Id(0)].end->cause, Finish::kStop);
}

TEST(WorkerStreamTest, AnAgentWaitsAtRunToUntilItIsRaised) {
  ServiceRig rig;
  RouterStream stream(rig);
  stream.Send(Opening());
  AgentRecipe recipe = Recipe(0);
  recipe.run_to = 3;
  stream.Send(std::vector<AgentRecipe>{recipe, Recipe(1)});
  while (!stream.agents[Id(1)].end || stream.agents[Id(0)].tokens.size() < 3) {
    ASSERT_TRUE(stream.Next());
  }
  EXPECT_EQ(stream.agents[Id(0)].tokens.size(), 3u);
  stream.Send(RaiseRunTo{{Id(0)}, {5}});
  while (stream.agents[Id(0)].tokens.size() < 5) ASSERT_TRUE(stream.Next());
  stream.Send(RaiseRunTo{{Id(0)}, {0}});
  stream.HalfClose();
  EXPECT_TRUE(stream.Finish().ok());
  EXPECT_EQ(stream.agents[Id(0)].answer, "0");
}

TEST(WorkerStreamTest, AnAgentThatRanBeforeGoesOnWhereItsTokensEnd) {
  ServiceRig rig;
  RouterStream whole(rig);
  whole.Send(Opening());
  whole.Send(Recipes(1));
  whole.HalfClose();
  ASSERT_TRUE(whole.Finish().ok());
  const RouterStream::Agent& before = whole.agents[Id(0)];

  for (size_t kept = 1; kept + 1 < before.tokens.size(); kept += 3) {
    RouterStream stream(rig);
    stream.Send(Opening());
    AgentRecipe recipe = Recipe(0);
    for (size_t i = 0; i < kept; ++i) recipe.produced.push_back(before.tokens[i].token);
    stream.Send(std::vector<AgentRecipe>{recipe});
    stream.HalfClose();
    ASSERT_TRUE(stream.Finish().ok());
    const RouterStream::Agent& agent = stream.agents[Id(0)];
    EXPECT_EQ(agent.first, static_cast<int>(kept));
    const std::vector<TextToken> rest(before.tokens.begin() + static_cast<ptrdiff_t>(kept),
                                      before.tokens.end());
    EXPECT_EQ(agent.tokens, rest) << kept;
    EXPECT_EQ(agent.end->fed, static_cast<int>(kept));
    const std::string text = before.thinking + before.answer;
    const auto released = static_cast<size_t>(before.tokens[kept - 1].text_end);
    EXPECT_EQ(agent.thinking + agent.answer, text.substr(released));
  }
}

TEST(WorkerStreamTest, AnAgentBelowItsBarEndsThereAlsoWhenItRanBefore) {
  ServiceRig rig;
  RouterStream stream(rig);
  stream.Send(Opening());
  AgentRecipe recipe = Recipe(0);
  recipe.bar = {.bar = 1000, .window = 3};
  stream.Send(std::vector<AgentRecipe>{recipe, Recipe(1)});
  stream.HalfClose();
  ASSERT_TRUE(stream.Finish().ok());
  const RouterStream::Agent& agent = stream.agents[Id(0)];
  ASSERT_TRUE(agent.end);
  EXPECT_EQ(agent.end->cause, Finish::kBar);
  ASSERT_EQ(agent.tokens.size(), 3u);
  EXPECT_EQ(agent.tokens.back().text_end,
            static_cast<int64_t>(agent.thinking.size() + agent.answer.size()));
  EXPECT_EQ(stream.agents[Id(1)].end->cause, Finish::kStop) << "its siblings go on";

  RouterStream again(rig);
  again.Send(Opening());
  for (size_t i = 0; i < 2; ++i) recipe.produced.push_back(agent.tokens[i].token);
  again.Send(std::vector<AgentRecipe>{recipe});
  again.HalfClose();
  ASSERT_TRUE(again.Finish().ok());
  const RouterStream::Agent& resumed = again.agents[Id(0)];
  EXPECT_EQ(resumed.tokens, std::vector<TextToken>{agent.tokens.back()});
  EXPECT_EQ(resumed.end->cause, Finish::kBar);
  EXPECT_EQ(resumed.end->fed, 2);
}

TEST(WorkerStreamTest, ABrokenStreamFreesItsAgentsAndBlocks) {
  ServiceRig rig({.service = {}, .max_slots = 16, .answer_tokens = 0, .hold = true});
  grpc::ClientContext context;
  const auto loads = rig.stub().WatchLoad(&context, {});
  v1::WatchLoadResponse load;
  {
    RouterStream stream(rig);
    stream.Send(Opening());
    stream.Send(Recipes(8));
    rig.runner().ReleaseSteps(2);
    ASSERT_TRUE(stream.NextOf<GangAccepted>());
    while (load.agents_running() < 8) ASSERT_TRUE(loads->Read(&load));
    EXPECT_EQ(load.credits(), 8);
    stream.Break();
  }
  rig.runner().ReleaseAllSteps();
  while (load.agents_running() > 0 || load.blocks_free() < load.blocks_total()) {
    ASSERT_TRUE(loads->Read(&load));
  }
  EXPECT_EQ(load.credits(), 16);
}

TEST(WorkerStreamTest, ARouterThatDoesNotReadStallsNobodyAndLosesNothing) {
  ServiceRig rig({.service = {}, .max_slots = 16, .answer_tokens = 200});
  RouterStream slow(rig);
  slow.Send(Opening());
  slow.Send(Recipes(8));
  slow.HalfClose();

  RouterStream quick(rig);
  quick.Send(Opening());
  quick.Send(Recipes(2));
  quick.HalfClose();
  EXPECT_TRUE(quick.Finish().ok());
  EXPECT_EQ(quick.agents.size(), 2u);

  EXPECT_TRUE(slow.Finish().ok());
  for (int i = 0; i < 8; ++i) {
    EXPECT_TRUE(slow.agents[Id(i)].end);
    EXPECT_EQ(slow.agents[Id(i)].answer.substr(0, 1), std::to_string(i));
  }
}

struct Breach {
  const char* name;
  std::vector<FamilyCommand> commands;
  const char* says;
};

class BreachTest : public ::testing::TestWithParam<Breach> {};

TEST_P(BreachTest, EndsTheStreamWithTheReason) {
  ServiceRig rig;
  RouterStream stream(rig);
  for (const FamilyCommand& command : GetParam().commands) stream.Send(command);
  stream.HalfClose();
  const grpc::Status status = stream.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr(GetParam().says));
  EXPECT_FALSE(stream.totals);
}

FamilyOpening WithoutMessages() {
  FamilyOpening opening = Opening();
  opening.messages.clear();
  return opening;
}

INSTANTIATE_TEST_SUITE_P(
    Router, BreachTest,
    ::testing::Values(Breach{"NoOpening", {Recipes(1)}, "first command must be open"},
                      Breach{"CancelFirst", {CancelAgents{{Id(0)}}}, "first command must be open"},
                      Breach{"Nothing", {}, "closed before open"},
                      Breach{"TwoOpenings", {Opening(), Opening()}, "open came twice"},
                      Breach{"NoMessages", {WithoutMessages()}, "open.messages has 0 entries"}),
    [](const auto& param) { return param.param.name; });

TEST(WorkerStreamTest, AnEmptyCommandEndsTheStream) {
  ServiceRig rig;
  RouterStream stream(rig);
  stream.SendRaw({});
  EXPECT_EQ(stream.Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST(WorkerStreamTest, AnotherFingerprintIsRefused) {
  ServiceRig rig;
  RouterStream stream(rig);
  FamilyOpening opening = Opening();
  opening.fingerprint = "other";
  stream.Send(opening);
  const grpc::Status status = stream.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("open.fingerprint is other; the group's is"));
}

TEST(WorkerStreamTest, BytesThatAreNoMessageAreNotTakenForAHalfClose) {
  ServiceRig rig;
  grpc::GenericStub stub(rig.channel());
  grpc::ClientContext context;
  grpc::CompletionQueue queue;
  const auto call = stub.PrepareCall(&context, "/conclave.v1.WorkerService/Run", &queue);
  void* tag = nullptr;
  bool ok = false;
  void* const mark = &queue;
  call->StartCall(mark);
  queue.Next(&tag, &ok);
  const grpc::Slice slice(std::string("\xff\xff\xff"));
  const grpc::ByteBuffer garbage(&slice, 1);
  call->Write(garbage, mark);
  queue.Next(&tag, &ok);
  grpc::Status status;
  call->Finish(&status, mark);
  queue.Next(&tag, &ok);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("no RunRequest"));
}

TEST(WorkerStreamTest, BeyondTheLimitFamiliesAreRefusedWithATimeToComeBack) {
  ServiceRig::Options options;
  options.service.max_families = 1;
  options.hold = true;
  ServiceRig rig(options);
  RouterStream first(rig);
  first.Send(Opening());
  first.Send(Recipes(1));
  ASSERT_TRUE(first.NextOf<GangAccepted>());
  RouterStream second(rig);
  second.Send(Opening());
  const grpc::Status status = second.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("1 families; the limit is 1"));
  EXPECT_TRUE(DetailsOf(FromGrpc(status)).retry_after.has_value());
}

}  // namespace
}  // namespace conclave::worker
