#include <gtest/gtest.h>

#include "common/status.h"
#include "router/contemplation/digest.h"
#include "tests/unit/router/contemplation/led_rounds.h"

// Rounds behind the first (REFINE).
namespace conclave::router {
namespace {

using Kind = Decision::Kind;

using RoundsTest = LedRounds;

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

TEST_F(RoundsTest, OneAgentThatSaysItAgainHasRefinedEnough) {
  request_.rounds = 8;
  BeginStrategy(Strategy::kRefine, 1);
  Say(Thinker(0), "ab.");
  ASSERT_EQ(gangs_.size(), 2u);
  AcceptAll();
  Say(Refiner(0), "c.");
  ASSERT_EQ(gangs_.size(), 3u);
  AcceptAll();
  Say(Refiner(0, 2), "c.");
  EXPECT_TRUE(finished_);
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "c.");
  ExpectReplays();
}

TEST_F(RoundsTest, OneLongPromptKeepsItsAgentAloneOutOfALaterRound) {
  request_.drafts = 2;
  BeginStrategy(Strategy::kRefine, 4);
  for (int i = 0; i < 4; ++i) Say(Thinker(i), std::string(static_cast<size_t>(i + 1), 'a') + ".");
  const auto is_long = InvalidArgument("prompt has 2000 tokens");
  Refuse(AddGang(gangs_.back()), is_long);
  EXPECT_EQ(Of(gangs_.back()), (std::vector{Refiner(0), Refiner(1)}));
  Refuse(AddGang(gangs_.back()), is_long);
  EXPECT_EQ(Of(gangs_.back()), std::vector{Refiner(0)});
  Refuse(AddGang(gangs_.back()), is_long);
  EXPECT_EQ(Of(gangs_.back()), (std::vector{Refiner(1), Refiner(2), Refiner(3)}));
  AcceptAll();
  for (int i = 1; i < 4; ++i) Say(Refiner(i), "b.");
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "b.");
  ASSERT_EQ(completed().receipt.decisions.size(), 1u);
  EXPECT_EQ(completed().receipt.decisions[0].agents, std::vector{Refiner(0)});
  ExpectReplays();
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
  EXPECT_EQ(wide.status().message().find("messages have 1048576 bytes; 16 agents"), 0u)
      << wide.status();

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

}  // namespace
}  // namespace conclave::router
