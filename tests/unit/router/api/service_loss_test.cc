#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "common/status_details.h"
#include "common/wire/grpc_status.h"
#include "tests/unit/router/api/api_rig.h"

// What a client sees when its group is lost, full, or away.
namespace conclave::router {
namespace {

using ::testing::HasSubstr;
using Event = v1::GenerateResponse;

absl::Status Killed() { return Unavailable("rank 1 was killed by signal 9"); }

TEST(ServiceLossTest, ALostGroupsAgentsGoOnAndTheClientSeesTheSameBytes) {
  v1::GenerateRequest request = Ask(v1::MODE_CONTEMPLATING, 6);
  request.add_include(v1::INCLUDE_THINKING);
  request.add_include(v1::INCLUDE_AGENT_ANSWERS);
  ApiRig quiet;
  const Heard undisturbed = Listen(quiet, request);

  ApiRig rig;
  rig.worker().HoldAfter(4);
  grpc::ClientContext context;
  const auto reader = rig.stub().Generate(&context, request);
  ASSERT_TRUE(rig.worker().AwaitTokens(24));
  rig.worker().Lose(Killed());
  rig.worker().Release();
  const Heard heard = ReadOut(*reader);

  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_EQ(heard.completed().answer(), undisturbed.completed().answer());
  EXPECT_EQ(heard.completed().receipt().result_hash(),
            undisturbed.completed().receipt().result_hash());
  EXPECT_EQ(heard.completed().receipt().resumes(), 1);
  EXPECT_EQ(heard.CountOf(Event::kAgentStarted), undisturbed.CountOf(Event::kAgentStarted));
  std::map<uint32_t, std::string> texts, expected;
  for (const auto& event : heard.events)
    texts[event.agent()] += event.agent_delta().thinking() + event.agent_delta().answer();
  for (const auto& event : undisturbed.events)
    expected[event.agent()] += event.agent_delta().thinking() + event.agent_delta().answer();
  EXPECT_EQ(texts, expected);

  std::vector<std::string> words;
  for (const auto& event : heard.events) {
    if (event.has_group_changed()) words.push_back(event.group_changed().reason());
  }
  ASSERT_EQ(words.size(), 2u);
  EXPECT_EQ(words[0], "group fake:1 was lost: rank 1 was killed by signal 9");
  EXPECT_THAT(words[1], HasSubstr("group fake:1 serves"));
}

TEST(ServiceLossTest, ARequestThatAsksToFailFailsWithTheReason) {
  ApiRig rig;
  rig.worker().HoldAfter(4);
  v1::GenerateRequest request = Ask(v1::MODE_CONTEMPLATING, 3);
  request.set_on_loss(v1::ON_LOSS_FAIL);
  grpc::ClientContext context;
  const auto reader = rig.stub().Generate(&context, request);
  ASSERT_TRUE(rig.worker().AwaitTokens(12));

  rig.worker().Lose(Killed());

  const Heard heard = ReadOut(*reader);
  EXPECT_EQ(heard.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(heard.status.error_message(), HasSubstr("rank 1 was killed by signal 9"));
  EXPECT_TRUE(rig.worker().AwaitOpenFamilies(0));
}

TEST(ServiceLossTest, AGroupThatHasNoRoomNowIsAskedAgain) {
  ApiRig rig;
  rig.worker().RefuseNext(ResourceExhausted("no room now"), 0);

  const Heard heard = Listen(rig, Ask(v1::MODE_INSTANT));

  EXPECT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_EQ(heard.Answer(), "Answer: 0");
}

TEST(ServiceLossTest, AGangThatNeverFitsIsNarrowedToWhatDoes) {
  ApiRig rig;
  rig.worker().RefuseNext(OutOfRange("the pool holds 3 of these agents"), 3);

  const Heard heard = Listen(rig, Ask(v1::MODE_CONTEMPLATING, 6));

  ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
  EXPECT_EQ(heard.CountOf(Event::kAgentStarted), 3);
}

TEST(ServiceLossTest, BelowItsMinimumARequestFails) {
  ApiRig rig;
  rig.worker().RefuseNext(OutOfRange("the pool holds 3 of these agents"), 3);
  v1::GenerateRequest request = Ask(v1::MODE_CONTEMPLATING, 6);
  request.mutable_contemplation()->set_min_agents(4);

  const Heard heard = Listen(rig, request);

  EXPECT_EQ(heard.status.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_THAT(heard.status.error_message(), HasSubstr("3"));
}

TEST(ServiceLossTest, AFleetThatIsFullSaysWhoHasRoomForWhat) {
  RigOptions options;
  options.credits = 0;
  options.service.place_patience = absl::Milliseconds(20);
  ApiRig rig(options);

  const Heard heard = Listen(rig, Ask(v1::MODE_INSTANT));

  EXPECT_EQ(heard.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(heard.status.error_message(), HasSubstr("group fake:1: has room for 0 agents of 1"));
  EXPECT_TRUE(DetailsOf(FromGrpc(heard.status)).retry_after.has_value());
}

TEST(ServiceLossTest, AReplayOfAReceiptGivesTheSameHash) {
  ApiRig rig;
  const Heard heard = Listen(rig, Ask(v1::MODE_CONTEMPLATING, 5));
  ASSERT_TRUE(heard.status.ok());
  const v1::Receipt& receipt = heard.completed().receipt();
  v1::GenerateRequest again = Ask(v1::MODE_CONTEMPLATING, 5);
  v1::Replay& replay = *again.mutable_replay();
  replay.set_seed(receipt.seed());
  replay.set_time_of_day(receipt.time_of_day());
  replay.set_fingerprint(receipt.fingerprint());
  replay.set_decision_version(receipt.decision_version());
  replay.set_result_hash(receipt.result_hash());
  *replay.mutable_decisions() = receipt.decisions();

  const Heard replayed = Listen(rig, again);

  ASSERT_TRUE(replayed.status.ok()) << replayed.status.error_message();
  EXPECT_EQ(replayed.completed().receipt().result_hash(), receipt.result_hash());

  replay.set_result_hash(std::string(64, '0'));
  EXPECT_EQ(Listen(rig, again).status.error_code(), grpc::StatusCode::ABORTED);
}

// Replays that no run could have led to: each ends at once, and the next request is served.
struct Forged {
  const char* name;
  v1::Mode mode;
  std::vector<v1::Decision> decisions;
  const char* says;
};

v1::Decision Decide(v1::Decision::Kind kind, int64_t clock, std::vector<uint32_t> agents,
                    std::vector<std::pair<uint32_t, int>> cuts) {
  v1::Decision decision;
  decision.set_number(1);
  decision.set_kind(kind);
  decision.set_clock(clock);
  for (const uint32_t agent : agents) decision.add_agents(agent);
  for (const auto& [agent, kept] : cuts) {
    decision.add_cuts()->set_agent(agent);
    decision.mutable_cuts(decision.cuts_size() - 1)->set_kept(kept);
  }
  return decision;
}

class ForgedReplayTest : public ::testing::TestWithParam<Forged> {};

TEST_P(ForgedReplayTest, EndsWithTheReasonAndHarmsNobody) {
  ApiRig rig({}, [](AgentId agent) {
    FakeSpeech speech = ThirdOfIndex(agent);
    if (StageOf(agent) == kThinkStage) speech.answer.back() = std::to_string(IndexOf(agent));
    return speech;
  });
  v1::GenerateRequest request =
      Ask(GetParam().mode, GetParam().mode == v1::MODE_CONTEMPLATING ? 3 : 0);
  v1::Replay& replay = *request.mutable_replay();
  replay.set_seed(request.seed());
  replay.set_fingerprint("f00d");
  replay.set_decision_version(kDecisionVersion);
  for (const v1::Decision& decision : GetParam().decisions) *replay.add_decisions() = decision;

  const Heard heard = Listen(rig, request);

  EXPECT_FALSE(heard.status.ok());
  EXPECT_THAT(heard.status.error_message(), HasSubstr(GetParam().says));
  EXPECT_TRUE(Listen(rig, Ask(v1::MODE_INSTANT)).status.ok());
  EXPECT_TRUE(rig.worker().AwaitOpenFamilies(0));
}

constexpr uint32_t kSynthesiser = 1u << 24;

INSTANTIATE_TEST_SUITE_P(
    Decisions, ForgedReplayTest,
    ::testing::Values(Forged{"TheOnlyAgentIsKeptOut",
                             v1::MODE_INSTANT,
                             {Decide(v1::Decision::KIND_NARROW, 0, {0}, {})},
                             "let none of the 1 agents begin"},
                      Forged{"TheOnlyAgentJoins",
                             v1::MODE_INSTANT,
                             {Decide(v1::Decision::KIND_JOIN, 0, {0}, {})},
                             "let none of the 1 agents begin"},
                      Forged{"ADeadlineThatNamesTheOnlyAgent",
                             v1::MODE_THINKING,
                             {Decide(v1::Decision::KIND_DEADLINE, 0, {0}, {})},
                             "let none of the 1 agents begin"},
                      Forged{"ADeadlineThatCutsNobody",
                             v1::MODE_CONTEMPLATING,
                             {Decide(v1::Decision::KIND_DEADLINE, 11, {}, {})},
                             "the replay differs"},
                      Forged{
                          "CutsOfBothStages",
                          v1::MODE_CONTEMPLATING,
                          {Decide(v1::Decision::KIND_DEADLINE, 0, {}, {{0, 0}, {kSynthesiser, 0}})},
                          "the replay differs"},
                      Forged{"ACutBeforeItsClock",
                             v1::MODE_CONTEMPLATING,
                             {Decide(v1::Decision::KIND_DROP, 5, {1}, {{1, 2}})},
                             "the replay differs"},
                      Forged{"AClockThatIsNeverReached",
                             v1::MODE_CONTEMPLATING,
                             {Decide(v1::Decision::KIND_DROP, 5000, {1}, {{1, 2}})},
                             "the replay differs"}),
    [](const auto& param) { return param.param.name; });

}  // namespace
}  // namespace conclave::router
