#include <gtest/gtest.h>

#include "common/status.h"
#include "router/contemplation/digest.h"
#include "tests/unit/router/contemplation/led_family.h"

// Rounds behind the first (REFINE), and a question in parts (DECOMPOSE).
namespace conclave::router {
namespace {

using Kind = Decision::Kind;

constexpr AgentId kSplitter = MakeAgentId(kSplitStage, 0, 0);
AgentId Refiner(int index, int round = 1) { return MakeAgentId(kThinkStage, round, index); }
AgentId OfPart(int part, int index = 0) { return MakeAgentId(kPartStage, part, index); }

std::vector<AgentId> Of(const AddGang& gang) {
  std::vector<AgentId> ids;
  for (const AgentRecipe& agent : gang.agents) ids.push_back(agent.id);
  return ids;
}

std::string Told(const AgentRecipe& recipe) {
  return recipe.messages.empty() ? "" : TextOf(recipe.messages.back());
}

class RoundsTest : public LedFamily {
 protected:
  RoundsTest() {
    limits_.straggler_patience = absl::Seconds(5);
    request_.stop_rule = StopRule::kNone;
    request_.aggregation = Aggregation::kVote;
    model_.profile.candidate_line = "[{answer}]";
    model_.profile.refine_text = "{question} Drafts: {candidates}";
    model_.profile.split_text = "Split {question}";
    model_.profile.join_text = "Join {question} {candidates}";
    model_.profile.join_line = "{part}={answer}";
  }

  void BeginStrategy(Strategy strategy, int agents, int least = 1) {
    request_.strategy = strategy;
    Begin(agents, least);
    Place(64);
    AcceptAll();
  }
  // Two agents that do not agree, and the round behind them.
  void ComeToSecondRound() {
    BeginStrategy(Strategy::kRefine, 2);
    Say(Thinker(0), "ab.");
    Say(Thinker(1), "cde.");
    ASSERT_EQ(gangs_.size(), 2u);
  }
  // A question in two parts, and their agents.
  void ComeToParts(int agents) {
    BeginStrategy(Strategy::kDecompose, agents);
    Say(kSplitter, "one\ntwo.");
    ASSERT_EQ(gangs_.size(), 2u);
    AcceptAll();
  }
  void ExpectReplays() {
    const Completed first = completed();
    Replay(first.receipt);
    ASSERT_FALSE(failed_.has_value()) << *failed_;
    ASSERT_TRUE(succeeded_);
    EXPECT_EQ(completed().answer, first.answer);
    EXPECT_EQ(completed().incomplete, first.incomplete);
    EXPECT_EQ(completed().method, first.method);
    EXPECT_EQ(completed().receipt.result_hash, first.receipt.result_hash);
    EXPECT_EQ(completed().receipt.decisions, first.receipt.decisions);
    EXPECT_EQ(completed().receipt.critical_path_tokens, first.receipt.critical_path_tokens);
  }
};

TEST_F(RoundsTest, AgentsOfALaterRoundSeeTheDraftsAndTheirVoteCounts) {
  ComeToSecondRound();
  EXPECT_EQ(Of(gangs_[1]), (std::vector{Refiner(0), Refiner(1)}));
  EXPECT_EQ(Told(gangs_[1].agents[0]), "What? Drafts: [ab.]\n[cde.]");
  EXPECT_EQ(Told(gangs_[1].agents[1]), Told(gangs_[1].agents[0])) << "one prefill for all";
  AcceptAll();
  Say(Refiner(0), "cde.");
  Say(Refiner(1), "f.");
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "f.") << "of its round it was counted first";
  EXPECT_TRUE(completed().receipt.decisions.empty());
  EXPECT_EQ(completed().receipt.votes, (std::vector<Vote>{{"f.", 1, 1}, {"cde.", 1, 1}}));
  EXPECT_EQ(completed().receipt.critical_path_tokens, 4 + 4);
  EXPECT_EQ(completed().receipt.agents.size(), 4u) << "drafts are on the bill";
  ExpectReplays();
  EXPECT_EQ(gangs_.size(), 2u) << "a replay opens its rounds by itself";
}

TEST_F(RoundsTest, ARoundInWhichAllAgreeIsTheLast) {
  request_.rounds = 3;
  ComeToSecondRound();
  AcceptAll();
  Say(Refiner(0), "cde.");
  Say(Refiner(1), "cde.");
  EXPECT_TRUE(finished_);
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "cde.");
  EXPECT_EQ(gangs_.size(), 2u);
}

TEST_F(RoundsTest, TheStopRuleOfEachRoundLooksAtItsOwnVotes) {
  request_.stop_rule = StopRule::kQuorum;
  request_.stop_votes = 2;
  BeginStrategy(Strategy::kRefine, 4);
  Say(Thinker(0), "x.");
  Say(Thinker(1), "ab.");
  Say(Thinker(2), "ab.");  // Stops at 3; it was not alone.
  Say(Thinker(3), "long");
  ASSERT_EQ(gangs_.size(), 2u);
  EXPECT_EQ(Told(gangs_[1].agents[0]), "What? Drafts: [ab.]\n[x.]\n[ab.]") << "by votes";
  AcceptAll();
  Say(Refiner(0), "ab.");
  for (int i = 1; i < 4; ++i) Say(Refiner(i), "wait");
  EXPECT_FALSE(finished_) << "the votes before it are drafts, no votes";
  Say(Refiner(1), " for me.");
  Say(Refiner(2), " for me.");
  Say(Refiner(3), " for me.");
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "wait for me.");
  EXPECT_EQ(completed().receipt.agents_cut, 2);
  ExpectReplays();
}

TEST_F(RoundsTest, EachAgentSeesTheDraftsThatTheSeedDrawsForIt) {
  request_.drafts = 2;
  request_.seed = 99;
  BeginStrategy(Strategy::kRefine, 4);
  const std::vector<std::string> drafts = {"a.", "bb.", "ccc.", "dddd."};
  for (int i = 0; i < 4; ++i) Say(Thinker(i), drafts[static_cast<size_t>(i)]);

  ASSERT_EQ(gangs_.size(), 2u);
  for (int i = 0; i < 4; ++i) {
    const std::vector<int> seen = DrawDrafts(99, Refiner(i), 4, 2);
    EXPECT_EQ(Told(gangs_[1].agents[static_cast<size_t>(i)]),
              "What? Drafts: [" + drafts[static_cast<size_t>(seen[0])] + "]\n[" +
                  drafts[static_cast<size_t>(seen[1])] + "]");
  }
}

TEST_F(RoundsTest, LongDraftsKeepTheirEnds) {
  request_.digest_bytes = 256;
  model_.profile.answer_tokens = 512;
  BeginStrategy(Strategy::kRefine, 2);
  Say(Thinker(0), std::string(300, 'a') + ".");
  Say(Thinker(1), std::string(300, 'b') + ".");

  ASSERT_EQ(gangs_.size(), 2u);
  EXPECT_EQ(Told(gangs_[1].agents[0]),
            "What? Drafts: [" + std::string(127, 'a') + ".]\n[" + std::string(127, 'b') + ".]");
}

TEST_F(RoundsTest, StoppedBeforeALaterRoundHasAnEndTheRoundBeforeAnswers) {
  ComeToSecondRound();
  AcceptAll();
  Say(Refiner(0), "half");
  Tell(StopRequested{});
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "ab.");
  EXPECT_TRUE(completed().incomplete);
  EXPECT_EQ(completed().receipt.votes, (std::vector<Vote>{{"ab.", 1, 1}, {"cde.", 1, 1}}));
  ExpectReplays();
}

TEST_F(RoundsTest, StoppedAfterAnEndOfALaterRoundThatRoundAnswers) {
  ComeToSecondRound();
  AcceptAll();
  Say(Refiner(0), "half");
  Say(Refiner(1), "g.");
  Tell(StopRequested{});
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "g.");
  EXPECT_TRUE(completed().incomplete);
  ExpectReplays();
}

TEST_F(RoundsTest, ALaterRoundThatFindsNoRoomIsGivenUpAfterAWhile) {
  ComeToSecondRound();
  for (int tries = 0; tries < 3; ++tries) {
    Refuse(AddGang(gangs_.back()), ResourceExhausted("no room"));
    Pass(limits_.retry_wait);
  }
  EXPECT_EQ(Of(gangs_.back()).size(), 1u) << "fewer are tried";
  Pass(limits_.narrow_wait);

  EXPECT_TRUE(finished_);
  EndFamily();
  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "ab.");
  EXPECT_FALSE(completed().incomplete) << "nothing is missing from it";
  const std::vector<Decision> expected = {{1, Kind::kNarrow, 4, {Refiner(0), Refiner(1)}, {}}};
  EXPECT_EQ(completed().receipt.decisions, expected);
  ExpectReplays();
}

TEST_F(RoundsTest, APromptThatTheModelCannotTakeEndsTheRefinement) {
  ComeToSecondRound();
  Refuse(AddGang(gangs_.back()), InvalidArgument("prompt has 2000 tokens"));
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "ab.");
  ExpectReplays();
}

TEST_F(RoundsTest, ALaterRoundEntersByWavesLikeTheFirst) {
  request_.wave = 2;
  BeginStrategy(Strategy::kRefine, 4);
  for (int i = 0; i < 4; ++i) {
    Say(Thinker(i), std::string(static_cast<size_t>(i + 1), 'a') + ".");
    AcceptAll();
  }
  ASSERT_EQ(gangs_.size(), 3u);
  EXPECT_EQ(Of(gangs_[2]), (std::vector{Refiner(0), Refiner(1)})) << "those before hold no place";
  Say(Refiner(0), "b.");
  Say(Refiner(1), "c.");
  ASSERT_EQ(gangs_.size(), 4u);
  EXPECT_EQ(Of(gangs_[3]), (std::vector{Refiner(2), Refiner(3)}));
  AcceptAll();
  Say(Refiner(2), "d.");
  Say(Refiner(3), "d.");
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "d.");
  EXPECT_TRUE(completed().receipt.decisions.empty());
  ExpectReplays();
}

TEST_F(RoundsTest, FewerThanHalfOfThoseBeforeThemDoNotOutvoteThem) {
  for (const int refined : {1, 3, 4}) {
    BeginStrategy(Strategy::kRefine, 8);
    for (int i = 0; i < 7; ++i) Say(Thinker(i), "42.");
    Say(Thinker(7), "7.");
    AcceptAll();
    for (int i = 0; i < refined; ++i) Say(Refiner(i), "9.");
    Pass(limits_.straggler_patience + absl::Seconds(1));
    EndFamily();

    ASSERT_TRUE(succeeded_);
    EXPECT_EQ(completed().answer, refined < 4 ? "42." : "9.") << refined;
    EXPECT_EQ(completed().receipt.votes.front().count, refined < 4 ? 7 : 4);
    EXPECT_EQ(completed().receipt.decisions.back().kind, Kind::kDrop);
    ExpectReplays();
    request_.replay.reset();
    Forget();
  }
}

TEST_F(RoundsTest, ALaterRoundSpeaksForAtLeastTheMinimum) {
  BeginStrategy(Strategy::kRefine, 8, /*least=*/6);
  for (int i = 0; i < 7; ++i) Say(Thinker(i), "42.");
  Say(Thinker(7), "7.");
  AcceptAll();
  for (int i = 0; i < 5; ++i) Say(Refiner(i), "9.");
  Tell(StopRequested{});
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "42.");
  EXPECT_TRUE(completed().incomplete);
  ExpectReplays();
}

TEST_F(RoundsTest, ALaterRoundThatTheStopRuleEndsSpeaksForAllOfIt) {
  request_.stop_rule = StopRule::kQuorum;
  request_.stop_votes = 2;
  BeginStrategy(Strategy::kRefine, 8, /*least=*/8);
  for (int i = 0; i < 8; ++i) Say(Thinker(i), i == 0 ? "x." : "ab.");
  AcceptAll();
  Say(Refiner(0), "c.");
  Say(Refiner(1), "c.");
  for (int i = 2; i < 8; ++i) Say(Refiner(i), "long");
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "c.");
  ExpectReplays();
}

TEST_F(RoundsTest, AnAcceptedAnswerOfALaterRoundIsHeardHoweverFewThereAre) {
  request_.checker = CheckerSpec{CheckerSpec::Kind::kRegex, "9\\.", {}};
  request_.aggregation = Aggregation::kCheck;
  BeginStrategy(Strategy::kRefine, 4);
  for (int i = 0; i < 4; ++i) Say(Thinker(i), "7.");
  AcceptAll();
  Say(Refiner(2), "9.");
  Tell(StopRequested{});
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "9.");
  EXPECT_EQ(completed().accepted, true);
}

TEST_F(RoundsTest, ALaterRoundOfWhichTooFewFitIsNotBegun) {
  BeginStrategy(Strategy::kRefine, 8);
  for (int i = 0; i < 8; ++i) Say(Thinker(i), i == 0 ? "7." : "42.");
  Refuse(AddGang(gangs_.back()), OutOfRange("three fit"), /*width=*/3);
  EXPECT_EQ(gangs_.size(), 2u);
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "42.");
  EXPECT_EQ(completed().receipt.agents.size(), 8u);
  ExpectReplays();
}

TEST_F(RoundsTest, ALaterRoundUnderLoadIsNoNarrowerThanItMustBeToSpeak) {
  BeginStrategy(Strategy::kRefine, 4);
  Tell(CreditsChanged{.attempt = attempt_, .credits = 0, .running = 68});
  for (int i = 0; i < 4; ++i) Say(Thinker(i), std::string(static_cast<size_t>(i + 1), 'a') + ".");
  ASSERT_EQ(gangs_.size(), 2u);
  EXPECT_EQ(Of(gangs_[1]), (std::vector{Refiner(0), Refiner(1)}));
  AcceptAll();
  Say(Refiner(0), "b.");
  Say(Refiner(1), "b.");
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "b.");
  ExpectReplays();
}

TEST_F(RoundsTest, PartsEnterUnderLoadForEachIsNeeded) {
  BeginStrategy(Strategy::kDecompose, 3);
  Tell(CreditsChanged{.attempt = attempt_, .credits = 0, .running = 68});
  Say(kSplitter, "one\ntwo\nthree.");
  ASSERT_EQ(gangs_.size(), 2u);
  EXPECT_EQ(Of(gangs_[1]), (std::vector{OfPart(0), OfPart(1), OfPart(2)}));
}

TEST_F(RoundsTest, ALaterRoundThatBreaksEachStreamIsGivenUp) {
  ComeToSecondRound();
  for (int losses = 0; losses < 3; ++losses) {
    ASSERT_FALSE(is_done());
    Pass(limits_.retry_wait);
    if (placing_) Place(64);
    ASSERT_EQ(gangs_.back().agents.size(), 2u);
    Lose(ResourceExhausted("a message is longer than the limit"));
  }

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "ab.");
  EXPECT_EQ(gangs_.size(), 4u);
}

TEST_F(RoundsTest, WhatALaterRoundIsToldHasALimit) {
  request_.strategy = Strategy::kRefine;
  request_.messages = {{Role::kUser, {{std::string(1 << 20, 'a')}}}};
  request_.max_agents = 15;
  EXPECT_TRUE(MakePlan(request_, model_, limits_).ok());

  request_.max_agents = 16;
  const auto wide = MakePlan(request_, model_, limits_);
  EXPECT_TRUE(absl::IsInvalidArgument(wide.status()));
  EXPECT_EQ(wide.status().message().find("contemplation.max_agents is 16"), 0u) << wide.status();

  request_.messages = {{Role::kUser, {{"What?"}}}};
  request_.max_agents = 64;
  request_.digest_bytes = 1 << 20;
  const auto seen = MakePlan(request_, model_, limits_);
  EXPECT_TRUE(absl::IsInvalidArgument(seen.status()));
  EXPECT_EQ(seen.status().message().find("contemplation.digest_bytes is 1048576"), 0u)
      << seen.status();

  request_.strategy = Strategy::kSample;
  EXPECT_TRUE(MakePlan(request_, model_, limits_).ok()) << "one round sees nobody";
}

TEST_F(RoundsTest, AQuestionThatIsNotSplitKeepsItsMinimum) {
  BeginStrategy(Strategy::kDecompose, 3, /*least=*/2);
  Say(kSplitter, "one thing only.");
  for (const size_t size : {3u, 2u, 2u}) {
    EXPECT_EQ(gangs_.back().agents.size(), size);
    Refuse(AddGang(gangs_.back()), ResourceExhausted("no room"));
    Pass(limits_.retry_wait);
  }
  Pass(2 * limits_.narrow_wait);
  EXPECT_FALSE(is_done()) << "the deadline is the bound";
  EXPECT_EQ(gangs_.back().agents.size(), 2u);

  Refuse(AddGang(gangs_.back()), OutOfRange("one fits"), /*width=*/1);
  EndFamily();
  ASSERT_TRUE(failed_.has_value());
  EXPECT_TRUE(absl::IsOutOfRange(*failed_));
}

TEST_F(RoundsTest, LostForGoodInALaterRoundTheRoundBeforeAnswers) {
  request_.on_loss = OnLoss::kContinue;
  ComeToSecondRound();
  AcceptAll();
  Say(Refiner(0), "half");
  Lose(Unavailable("gone"));

  ASSERT_TRUE(succeeded_) << failed_.value_or(absl::OkStatus());
  EXPECT_EQ(completed().answer, "ab.");
  ASSERT_EQ(completed().receipt.decisions.size(), 1u);
  EXPECT_EQ(completed().receipt.decisions[0].kind, Kind::kDrop);
  ExpectReplays();
}

TEST_F(RoundsTest, ALaterRoundResumesElsewhere) {
  ComeToSecondRound();
  AcceptAll();
  Say(Refiner(0), "half");
  Lose(Unavailable("gone"));
  Place(64);
  ASSERT_EQ(gangs_.size(), 4u);
  EXPECT_EQ(gangs_[2].agents[0].produced.size(), 4u);
  EXPECT_EQ(Told(gangs_[2].agents[0]), Told(gangs_[1].agents[0]));
  AcceptAll();
  Say(Refiner(0), " of it.");
  Say(Refiner(1), "all.");
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "all.");
  EXPECT_TRUE(completed().receipt.decisions.empty());
}

TEST_F(RoundsTest, RoundsShareTheTotalEqually) {
  request_.rounds = 2;
  request_.total_tokens = 64 * 9 + 63;
  BeginStrategy(Strategy::kRefine, 8);
  EXPECT_EQ(gangs_[0].agents.size(), 3u);

  request_.total_tokens = 64 * 3 - 1;
  const auto plan = MakePlan(request_, model_, limits_);
  EXPECT_TRUE(absl::IsInvalidArgument(plan.status())) << "not one agent a round";
}

TEST_F(RoundsTest, EachPartHasAnAgentAndALastPassJoinsThem) {
  ComeToParts(3);
  EXPECT_EQ(Told(gangs_[0].agents[0]), "Split What?");
  EXPECT_EQ(Of(gangs_[1]), (std::vector{OfPart(0), OfPart(1)}));
  EXPECT_EQ(Told(gangs_[1].agents[0]), "one");
  EXPECT_EQ(Told(gangs_[1].agents[1]), "two.");
  Say(OfPart(1), "four.");
  Say(OfPart(0), "five is it.");
  ASSERT_EQ(gangs_.size(), 3u);
  EXPECT_EQ(Of(gangs_[2]), std::vector{kSynthesiser});
  EXPECT_EQ(Told(gangs_[2].agents[0]), "Join What? one=five is it.\ntwo.=four.");
  AcceptAll();
  Say(kSynthesiser, "nine.");
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "nine.");
  EXPECT_EQ(completed().method, Aggregation::kSynthesise);
  EXPECT_FALSE(completed().incomplete);
  EXPECT_TRUE(completed().receipt.votes.empty());
  EXPECT_EQ(completed().receipt.critical_path_tokens, 8 + 11 + 5);
  ExpectReplays();
}

TEST_F(RoundsTest, WhereThereAreEnoughAgentsAPartIsVotedOn) {
  ComeToParts(7);
  EXPECT_EQ(Of(gangs_[1]), (std::vector{OfPart(0, 0), OfPart(0, 1), OfPart(0, 2), OfPart(1, 0),
                                        OfPart(1, 1), OfPart(1, 2)}));
  Say(OfPart(0, 0), "x.");
  Say(OfPart(0, 1), "five.");
  Say(OfPart(0, 2), "five.");
  for (int i = 0; i < 3; ++i) Say(OfPart(1, i), "four.");

  ASSERT_EQ(gangs_.size(), 3u);
  EXPECT_EQ(Told(gangs_[2].agents[0]), "Join What? one=five.\ntwo.=four.");
}

TEST_F(RoundsTest, AQuestionThatIsNotSplitIsAskedWhole) {
  for (const std::string said : {"one thing only.", "a\nb\nc.", "."}) {
    BeginStrategy(Strategy::kDecompose, 2);
    Say(kSplitter, said);
    ASSERT_EQ(gangs_.size(), 2u) << said;
    EXPECT_EQ(Of(gangs_[1]), (std::vector{Thinker(0), Thinker(1)}));
    EXPECT_EQ(Told(gangs_[1].agents[0]), "") << "the family's own messages";
    AcceptAll();
    Say(Thinker(0), "ab.");
    Say(Thinker(1), "ab.");
    EndFamily();

    ASSERT_TRUE(succeeded_);
    EXPECT_EQ(completed().answer, "ab.");
    EXPECT_EQ(completed().receipt.votes, (std::vector<Vote>{{"ab.", 2, 2}}));
    Forget();
  }
}

TEST_F(RoundsTest, StoppedInItsPartsTheAnswerIsWhatIsKnownOfThem) {
  ComeToParts(2);
  Say(OfPart(0), "wait");
  Say(OfPart(1), "four.");
  Tell(StopRequested{});
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "two.=four.");
  EXPECT_TRUE(completed().incomplete);
  ExpectReplays();
}

TEST_F(RoundsTest, WithoutTheJoiningPassTheAnswerIsWhatIsKnownOfTheParts) {
  ComeToParts(2);
  Say(OfPart(0), "five.");
  Say(OfPart(1), "four.");
  ASSERT_EQ(gangs_.size(), 3u);
  Refuse(AddGang(gangs_.back()), InvalidArgument("too long"));
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "one=five.\ntwo.=four.");
  EXPECT_TRUE(completed().incomplete);
}

TEST_F(RoundsTest, StoppedWhileItIsSplitThereIsNoAnswer) {
  BeginStrategy(Strategy::kDecompose, 2);
  Say(kSplitter, "one\n");
  Tell(StopRequested{});
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "");
  EXPECT_TRUE(completed().incomplete);
  ExpectReplays();
}

TEST_F(RoundsTest, APartThatIsLostIsMissingFromTheAnswer) {
  ComeToParts(2);
  Say(OfPart(1), "four.");
  Pass(limits_.straggler_patience + absl::Seconds(1));
  ASSERT_EQ(gangs_.size(), 3u);
  EXPECT_EQ(Told(gangs_[2].agents[0]), "Join What? one=\ntwo.=four.");
  AcceptAll();
  Say(kSynthesiser, "nine.");
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "nine.");
  EXPECT_TRUE(completed().incomplete);
  ExpectReplays();
}

TEST_F(RoundsTest, AModelWithoutTheWordsSamples) {
  model_.profile.split_text.clear();
  BeginStrategy(Strategy::kDecompose, 2);
  EXPECT_EQ(Of(gangs_[0]), (std::vector{Thinker(0), Thinker(1)}));

  model_.profile.refine_text.clear();
  model_.profile.aggregate_text.clear();
  request_.strategy = Strategy::kRefine;
  const auto plan = MakePlan(request_, model_, limits_);
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->rounds, 0);
}

}  // namespace
}  // namespace conclave::router
