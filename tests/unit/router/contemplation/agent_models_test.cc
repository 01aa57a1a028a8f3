#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "common/status.h"
#include "router/contemplation/width.h"
#include "tests/unit/router/contemplation/led_family.h"

// Agents of several models.
namespace conclave::router {
namespace {

using ::testing::ElementsAre;

class AgentModelsTest : public LedFamily {
 protected:
  AgentModelsTest() {
    limits_.narrow_wait = absl::Seconds(10);
    limits_.retry_wait = absl::Milliseconds(50);
    request_.stop_rule = StopRule::kNone;
    request_.aggregation = Aggregation::kVote;
    request_.agent_models = {"m", "big"};
    ModelDescription& big = others_.emplace_back(model_);
    big.name = "big";
    big.fingerprint = "x";
  }

  std::vector<AgentId> IdsOf(const AddGang& gang) const {
    std::vector<AgentId> ids;
    for (const AgentRecipe& agent : gang.agents) ids.push_back(agent.id);
    return ids;
  }
  void ExpectReplays() {
    EndFamily();
    ASSERT_TRUE(succeeded_);
    const Completed first = completed();
    Replay(first.receipt);
    ASSERT_FALSE(failed_) << *failed_;
    EXPECT_EQ(completed().receipt.result_hash, first.receipt.result_hash);
    EXPECT_EQ(completed().receipt.decisions, first.receipt.decisions);
  }
};

TEST_F(AgentModelsTest, EachModelsAgentsGoToItsGroupAndAllVoteTogether) {
  Begin(5, 1);
  ASSERT_EQ(opened_.size(), 1u) << "one attempt";
  const std::vector<PlaceWanted>& places = opened_[0].places;
  ASSERT_EQ(places.size(), 2u);
  EXPECT_EQ(places[0].model, "m");
  EXPECT_EQ(places[0].agents, 3);
  EXPECT_EQ(places[1].model, "big");
  EXPECT_EQ(places[1].fingerprint, "x");
  EXPECT_EQ(places[1].agents, 2);
  Place(5);
  ASSERT_EQ(gangs_.size(), 2u);
  EXPECT_EQ(gangs_[0].place, 0);
  EXPECT_THAT(IdsOf(gangs_[0]), ElementsAre(Thinker(0), Thinker(2), Thinker(4)));
  EXPECT_EQ(gangs_[1].place, 1);
  EXPECT_THAT(IdsOf(gangs_[1]), ElementsAre(Thinker(1), Thinker(3)));
  AcceptAll();
  Say(Thinker(1), "aaa.");
  Say(Thinker(3), "aaa.");
  Say(Thinker(0), "bb.");
  Say(Thinker(2), "cc.");
  Say(Thinker(4), "dd.");
  ExpectReplays();
  EXPECT_EQ(completed().answer, "aaa.");
  EXPECT_TRUE(completed().receipt.decisions.empty());
}

TEST_F(AgentModelsTest, EventsAndReceiptSayWhoIsOfWhichModel) {
  Begin(2, 1);
  Place(2);
  AcceptAll();
  Say(Thinker(0), "aa.");
  Say(Thinker(1), "aa.");
  EndFamily();

  const auto* admitted = std::get_if<Admitted>(&events_.front().what);
  ASSERT_NE(admitted, nullptr);
  EXPECT_THAT(admitted->agent_fingerprints, ElementsAre("f", "x"));
  const Receipt& receipt = completed().receipt;
  EXPECT_THAT(receipt.agent_models, ElementsAre("m", "big"));
  EXPECT_THAT(receipt.agent_fingerprints, ElementsAre("f", "x"));
  ASSERT_EQ(receipt.agents.size(), 2u);
  EXPECT_EQ(receipt.agents[0].model, "");
  EXPECT_EQ(receipt.agents[1].model, "big");
  std::vector<std::string> started;
  for (const ClientEvent& event : events_) {
    if (const auto* start = std::get_if<AgentStarted>(&event.what)) started.push_back(start->model);
  }
  EXPECT_THAT(started, ElementsAre("", "big"));
}

TEST_F(AgentModelsTest, AnswersAreFoundByEachModelsOwnKey) {
  others_[0].profile.answer_key = {.kind = AnswerKeySpec::Kind::kRegex, .argument = "(a+)"};
  Begin(2, 1);
  Place(2);
  AcceptAll();
  Say(Thinker(0), "aa.");
  Say(Thinker(1), "xaay.");
  EndFamily();
  EXPECT_EQ(completed().receipt.agents[0].answer, "aa.");
  EXPECT_EQ(completed().receipt.agents[1].answer, "aa");
}

TEST_F(AgentModelsTest, ModelsMayBeNamedMoreThanOnce) {
  request_.agent_models = {"m", "big", "big"};
  Begin(3, 1);
  EXPECT_EQ(opened_[0].places[0].share, 1);
  EXPECT_EQ(opened_[0].places[1].share, 2);
  EXPECT_EQ(opened_[0].places[1].shares, 3);
  Place(3);
  ASSERT_EQ(gangs_.size(), 2u);
  EXPECT_THAT(IdsOf(gangs_[1]), ElementsAre(Thinker(1), Thinker(2)));
}

TEST_F(AgentModelsTest, AModelWithoutRoomJoinsWhenItHas) {
  Begin(4, 1);
  Place(4);
  Accept(AddGang(gangs_[0]));
  Refuse(AddGang(gangs_[1]), ResourceExhausted("full"));
  Say(Thinker(0), "aa");
  Say(Thinker(2), "aa");
  Pass(absl::Milliseconds(50));

  ASSERT_EQ(gangs_.size(), 3u);
  EXPECT_EQ(gangs_[2].place, 1);
  Accept(AddGang(gangs_[2]));
  ASSERT_EQ(Decisions().size(), 1u);
  EXPECT_EQ(Decisions()[0].kind, Decision::Kind::kJoin);
  EXPECT_EQ(Decisions()[0].clock, 2);
  EXPECT_THAT(Decisions()[0].agents, ElementsAre(Thinker(1)));
  Tell(CreditsChanged{.attempt = attempt_, .credits = 4});
  AcceptAll();
  for (const int agent : {0, 2}) Say(Thinker(agent), "a.");
  for (const int agent : {1, 3}) Say(Thinker(agent), "b.");
  ExpectReplays();
}

TEST_F(AgentModelsTest, AModelThatNeverHasRoomIsDoneWithout) {
  Begin(2, 1);
  Place(2);
  Accept(AddGang(gangs_[0]));
  Refuse(AddGang(gangs_[1]), ResourceExhausted("full"));
  for (int i = 0; i < 300 && Decisions().empty(); ++i) {
    Pass(absl::Milliseconds(50));
    if (gangs_.size() > 2)
      Refuse(AddGang(gangs_.back()), ResourceExhausted("full")), gangs_.pop_back();
  }
  ASSERT_EQ(Decisions().size(), 1u);
  EXPECT_EQ(Decisions()[0].kind, Decision::Kind::kNarrow);
  Say(Thinker(0), "aa.");
  ExpectReplays();
}

TEST_F(AgentModelsTest, WhoIsNeededForTheMinimumIsWaitedFor) {
  Begin(2, 2);
  Place(2);
  Accept(AddGang(gangs_[0]));
  Refuse(AddGang(gangs_[1]), ResourceExhausted("full"));
  Say(Thinker(0), "aa.");
  for (int i = 0; i < 300; ++i) {
    Pass(absl::Milliseconds(50));
    if (gangs_.size() > 2)
      Refuse(AddGang(gangs_.back()), ResourceExhausted("full")), gangs_.pop_back();
  }
  EXPECT_TRUE(Decisions().empty());
  EXPECT_FALSE(is_done());
  Pass(absl::Milliseconds(50));
  ASSERT_EQ(gangs_.size(), 3u);
  Accept(AddGang(gangs_[2]));
  Say(Thinker(1), "aa.");
  ExpectReplays();
}

TEST_F(AgentModelsTest, APromptThatOneModelCannotTakeIsTheRequestsFaultInAnyOrder) {
  for (const bool first : {true, false}) {
    Forget();
    Begin(2, 1);
    Place(2);
    if (!first) Accept(AddGang(gangs_[0]));
    Refuse(AddGang(gangs_[1]), InvalidArgument("the prompt is too long for big"));
    EndFamily();
    ASSERT_TRUE(failed_) << first;
    EXPECT_TRUE(absl::IsInvalidArgument(*failed_)) << *failed_;
  }
}

TEST_F(AgentModelsTest, ALossOfOneGroupIsMadeGoodOnAGroupOfEach) {
  Begin(2, 1);
  Place(2);
  AcceptAll();
  Say(Thinker(0), "aa");
  Say(Thinker(1), "b");
  Lose(Unavailable("killed"));
  ASSERT_EQ(opened_.size(), 2u);
  ASSERT_EQ(opened_[1].places.size(), 2u);
  Place(2);
  ASSERT_EQ(gangs_.size(), 4u);
  EXPECT_EQ(gangs_[2].agents[0].produced.size(), 2u);
  EXPECT_EQ(gangs_[3].place, 1);
  EXPECT_EQ(gangs_[3].agents[0].produced.size(), 1u);
  AcceptAll();
  Say(Thinker(0), "a.");
  Say(Thinker(1), "b.");
  ExpectReplays();
}

TEST_F(AgentModelsTest, AGroupOfAnotherFingerprintWillNotDo) {
  Begin(2, 1);
  placing_ = false;
  Tell(Placed{.attempt = attempt_, .fingerprint = "f", .beside = {"y"}, .credits = 2, .words = ""});
  EXPECT_TRUE(closed_);
  EXPECT_TRUE(gangs_.empty());
}

TEST_F(AgentModelsTest, CancelsGoWhereTheAgentsAre) {
  request_.stop_rule = StopRule::kFirst;
  request_.stop_votes = 1;
  Begin(3, 1);
  Place(3);
  AcceptAll();
  Say(Thinker(0), "aa");
  Say(Thinker(1), "bb");
  Say(Thinker(2), "a.");
  ASSERT_EQ(cancels_.size(), 2u);
  EXPECT_EQ(cancels_[0].place, 0);
  EXPECT_THAT(cancels_[0].agents, ElementsAre(Thinker(0)));
  EXPECT_EQ(cancels_[1].place, 1);
  EXPECT_THAT(cancels_[1].agents, ElementsAre(Thinker(1)));
}

TEST_F(AgentModelsTest, LaterRoundsAreInEachModelsWords) {
  request_.strategy = Strategy::kRefine;
  model_.profile.refine_text = "m: {candidates}";
  others_[0].profile.refine_text = "big: {candidates}";
  Begin(2, 1);
  Place(2);
  AcceptAll();
  Say(Thinker(0), "aa.");
  Say(Thinker(1), "bb.");
  ASSERT_EQ(gangs_.size(), 4u);
  EXPECT_EQ(TextOf(gangs_[2].agents[0].messages.back()), "m: aa.\nbb.");
  EXPECT_EQ(gangs_[3].place, 1);
  EXPECT_EQ(TextOf(gangs_[3].agents[0].messages.back()), "big: aa.\nbb.");
}

TEST_F(AgentModelsTest, WhatOneModelHasNoWordsForIsSample) {
  request_.strategy = Strategy::kRefine;
  model_.profile.refine_text = "m: {candidates}";
  others_[0].profile.aggregate_text.clear();
  Begin(2, 1);
  Place(2);
  AcceptAll();
  Say(Thinker(0), "aa.");
  Say(Thinker(1), "bb.");
  EXPECT_EQ(gangs_.size(), 2u);
  EXPECT_TRUE(finished_);
}

TEST_F(AgentModelsTest, ThePassIsOfTheFirstModelOnTheSameAttempt) {
  request_.aggregation = Aggregation::kSynthesise;
  Begin(2, 1);
  Place(2);
  AcceptAll();
  Say(Thinker(1), "aa.");
  Say(Thinker(0), "bb.");
  ASSERT_EQ(gangs_.size(), 3u);
  EXPECT_EQ(gangs_[2].place, 0);
  EXPECT_EQ(opened_.size(), 1u);
  Accept(AddGang(gangs_[2]));
  Say(kSynthesiser, "zz.");
  ExpectReplays();
}

// As the review of a refusal that comes late had it: three ends wait for the other model's gang.
TEST_F(AgentModelsTest, WhatAGangHeldUpIsCountedBeforeItsRefusalDecides) {
  request_.agent_models = {"m", "m", "big"};
  request_.stop_rule = StopRule::kSettled;
  Begin(6, 1);
  Place(6);
  ASSERT_EQ(gangs_.size(), 2u);
  Accept(AddGang(gangs_[0]));
  Say(Thinker(0), "aa.");
  Say(Thinker(1), "aa.");
  Say(Thinker(3), "aa.");
  Say(Thinker(4), "bbbbb");
  Refuse(AddGang(gangs_[1]), OutOfRange("one fits"), 1);
  ASSERT_FALSE(Decisions().empty());
  int64_t clock = 0;
  for (const Decision& decision : Decisions()) {
    EXPECT_GE(decision.clock, clock);
    clock = decision.clock;
  }
  if (!finished_) {
    AcceptAll();
    for (const int agent : {2, 4}) Say(Thinker(agent), "b.");
  }
  ExpectReplays();
}

TEST_F(AgentModelsTest, WhoWaitsForRoomIsNotWhoWasLost) {
  limits_.resume_wait = absl::Seconds(20);
  Begin(2, 2);
  Place(2);
  Accept(AddGang(gangs_[0]));
  Refuse(AddGang(gangs_[1]), ResourceExhausted("full"));
  Say(Thinker(0), "a");
  Lose(Unavailable("killed"));
  Place(2);
  for (int i = 0; i < 1000 && !is_done(); ++i) {
    while (gangs_.size() > 2) {
      const AddGang gang = gangs_.back();
      gangs_.pop_back();
      gang.place == 0 ? Accept(gang) : Refuse(gang, ResourceExhausted("full"));
    }
    Pass(absl::Milliseconds(50));
  }
  EXPECT_FALSE(is_done()) << "it waits for its minimum";
}

TEST_F(AgentModelsTest, AGroupThatHasNoRoomForTheStreamIsNoLoss) {
  request_.on_loss = OnLoss::kFail;
  Begin(2, 1);
  Place(2);
  Accept(AddGang(gangs_[0]));
  Say(Thinker(0), "a");
  for (int i = 0; i < 5; ++i) {
    Tell(Lost{.attempt = attempt_, .why = ResourceExhausted("too many families"), .place = 1});
    EXPECT_FALSE(is_done()) << i;
    Pass(absl::Milliseconds(50));
    ASSERT_TRUE(placing_);
    Place(2);
  }
  AcceptAll();
  EXPECT_FALSE(is_done());
}

TEST_F(AgentModelsTest, AGroupThatHadBegunAndHasNoRoomIsALoss) {
  request_.on_loss = OnLoss::kFail;
  Begin(2, 1);
  Place(2);
  AcceptAll();
  Tell(Lost{.attempt = attempt_, .why = ResourceExhausted("a message is too long"), .place = 1});
  ASSERT_TRUE(failed_);
  EXPECT_TRUE(absl::IsUnavailable(*failed_)) << *failed_;
}

TEST_F(AgentModelsTest, AModelThatNobodyIsLeftOfIsNotSoughtAgain) {
  Begin(2, 1);
  Place(2);
  AcceptAll();
  Say(Thinker(1), "bbbbb.");
  Say(Thinker(0), "a");
  Lose(Unavailable("killed"));
  ASSERT_EQ(opened_.size(), 2u);
  EXPECT_EQ(opened_[1].places.size(), 1u);
  Place(1);
  AcceptAll();
  Say(Thinker(0), "aaa.");
  ExpectReplays();
}

TEST_F(AgentModelsTest, ThePassDoesNotWaitForAModelWithoutRoom) {
  request_.aggregation = Aggregation::kSynthesise;
  Begin(2, 1);
  Place(2);
  Accept(AddGang(gangs_[0]));
  Say(Thinker(0), "aa.");
  Tell(Lost{.attempt = attempt_, .why = ResourceExhausted("too many families"), .place = 1});
  for (int i = 0; i < 300 && gangs_.size() == 2; ++i) {
    Pass(absl::Milliseconds(50));
    if (placing_ && opened_.back().places.size() == 1) Place(1);
  }
  ASSERT_EQ(gangs_.size(), 3u) << "the pass";
  AcceptAll();
  Say(kSynthesiser, "zz.");
  ExpectReplays();
  EXPECT_EQ(completed().answer, "zz.");
}

TEST_F(AgentModelsTest, WhatBefallsAGroupThatNobodyNeedsAnyMoreIsNothingToThePass) {
  request_.aggregation = Aggregation::kSynthesise;
  Begin(2, 1);
  Place(2);
  AcceptAll();
  Say(Thinker(1), "aa.");
  Say(Thinker(0), "bb.");
  EXPECT_FALSE(finished_) << "the pass is to come";
  EXPECT_THAT(finishes_, ElementsAre(1)) << "the other model's group is let go";
  EXPECT_EQ(gangs_.back().place, 0);
  AcceptAll();
  Say(kSynthesiser, "zz.");
  EXPECT_TRUE(finished_);
  ExpectReplays();
}

TEST_F(AgentModelsTest, NobodySpeaksForAnothersAgents) {
  Begin(2, 1);
  Place(2);
  AcceptAll();
  Delta delta{.attempt = attempt_, .delta = {}, .place = 1};
  delta.delta.agent = Thinker(0);
  delta.delta.answer = "a";
  delta.delta.tokens = {{.token = {.id = 1}, .text_end = 1}};
  Tell(delta);
  EXPECT_TRUE(closed_);
  EXPECT_EQ(opened_.size(), 2u) << "its group is not believed any more";
}

TEST_F(AgentModelsTest, AReplayWhoseGroupHasNoRoomIsSoughtAPlaceForOne) {
  request_.agent_models.clear();
  Begin(3, 3);
  Place(3);
  AcceptAll();
  for (const int agent : {0, 1, 2}) Say(Thinker(agent), "aa.");
  EndFamily();
  BeginReplay(completed().receipt);
  Place(3);
  Lose(ResourceExhausted("too many families"));
  Pass(absl::Milliseconds(50));
  ASSERT_EQ(opened_.size(), 2u);
  EXPECT_EQ(opened_[1].places[0].agents, 1) << "its agents enter one after another";
}

TEST_F(AgentModelsTest, AModelThatNobodyIsOfIsNotSought) {
  request_.agent_models = {"m", "m", "big"};
  Begin(2, 1);
  EXPECT_EQ(opened_[0].places.size(), 1u);
}

TEST_F(AgentModelsTest, TheMinimumIsAgainstWhatOneGroupOfEachRuns) {
  request_.agent_models = {"m", "big", "big"};
  others_[0].max_agents = 3;
  request_.max_agents = 8;
  request_.min_agents = 5;  // m, big, big, m, big.
  EXPECT_TRUE(MakePlan(request_, model_, limits_, nullptr, others_).ok());
  request_.min_agents = 6;
  const auto plan = MakePlan(request_, model_, limits_, nullptr, others_);
  ASSERT_TRUE(absl::IsInvalidArgument(plan.status()));
  EXPECT_TRUE(MessageOf(plan.status()).find("a group of big runs 5 at a time") !=
              std::string_view::npos)
      << plan.status();
}

TEST_F(AgentModelsTest, BudgetsBeyondAnotherModelsPositionsAreRefused) {
  others_[0].max_positions = 32;
  request_.answer_tokens = 64;
  const auto plan = MakePlan(request_, model_, limits_, nullptr, others_);
  ASSERT_TRUE(absl::IsInvalidArgument(plan.status()));
  EXPECT_TRUE(MessageOf(plan.status()).starts_with("agents of big: budget.answer_tokens"))
      << plan.status();
}

TEST_F(AgentModelsTest, TokenIdsAreSaidToTheirOwnVocabularyOnly) {
  model_.vocabulary = others_[0].vocabulary = 100;
  request_.stop_tokens = {7};
  request_.sampling.logit_bias = {{8, 1.0f}};
  const auto plan = MakePlan(request_, model_, limits_, nullptr, others_);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->agents[0].stop_tokens, ElementsAre(7));
  EXPECT_TRUE(plan->agents[1].stop_tokens.empty());
  EXPECT_TRUE(plan->agents[1].sampling.logit_bias.empty());
}

TEST_F(AgentModelsTest, AReplayWithOtherFingerprintsIsRefused) {
  Begin(2, 1);
  Place(2);
  AcceptAll();
  Say(Thinker(0), "aa.");
  Say(Thinker(1), "aa.");
  EndFamily();
  const Receipt receipt = completed().receipt;
  others_[0].fingerprint = "y";
  request_.replay = ReplaySpec{.seed = receipt.seed,
                               .time_of_day = receipt.time_of_day,
                               .fingerprint = receipt.fingerprint,
                               .aggregator_fingerprint = {},
                               .agent_fingerprints = receipt.agent_fingerprints,
                               .decision_version = receipt.decision_version,
                               .decisions = {},
                               .result_hash = receipt.result_hash};
  const auto plan = MakePlan(request_, model_, limits_, nullptr, others_);
  EXPECT_TRUE(absl::IsAborted(plan.status())) << plan.status();
}

TEST_F(AgentModelsTest, WidthIsWhatTheFullestGroupLeaves) {
  const GroupRoom joint =
      JointRoom({{.credits = 9, .running = 2, .places = 64, .share = 1, .shares = 3},
                 {.credits = 4, .running = 60, .places = 64, .share = 2, .shares = 3}});
  EXPECT_EQ(joint.credits, 6);
  EXPECT_EQ(joint.running, 90);
  EXPECT_EQ(joint.places, 96);
}

}  // namespace
}  // namespace conclave::router
