#include <gtest/gtest.h>

#include "common/status.h"
#include "common/status_details.h"
#include "tests/unit/router/contemplation/led_rounds.h"

// A question in parts (DECOMPOSE).
namespace conclave::router {
namespace {

using Kind = Decision::Kind;
using SplitTest = LedRounds;

TEST_F(SplitTest, PartsEnterUnderLoadForEachIsNeeded) {
  BeginStrategy(Strategy::kDecompose, 3);
  Tell(CreditsChanged{.attempt = attempt_, .credits = 0, .running = 68});
  Say(kSplitter, "one\ntwo\nthree.");
  ASSERT_EQ(gangs_.size(), 2u);
  EXPECT_EQ(Of(gangs_[1]), (std::vector{OfPart(0), OfPart(1), OfPart(2)}));
}

TEST_F(SplitTest, PartsThatDoNotFitTogetherEnterOneAfterAnother) {
  BeginStrategy(Strategy::kDecompose, 3);
  Say(kSplitter, "one\ntwo\nthree.");
  Refuse(AddGang(gangs_.back()), OutOfRange("the group runs 2 at a time"), /*width=*/2);
  EXPECT_EQ(Of(gangs_.back()), (std::vector{OfPart(0), OfPart(1)}));
  Tell(CreditsChanged{.attempt = attempt_, .credits = 0, .running = 0});
  AcceptAll();
  for (const absl::Duration time : {limits_.retry_wait, limits_.narrow_wait}) {
    Pass(time);
    EXPECT_EQ(Of(gangs_.back()), std::vector{OfPart(2)});
    Refuse(AddGang(gangs_.back()), ResourceExhausted("no room"));
  }
  EXPECT_TRUE(Decisions().empty()) << "nobody else is asked that part";
  Say(OfPart(0), "five.");
  Say(OfPart(1), "four.");
  Pass(limits_.retry_wait);
  AcceptAll();
  Say(OfPart(2), "six.");
  Pass(limits_.retry_wait);
  EXPECT_EQ(Told(gangs_.back().agents[0]), "Join What? one=five.\ntwo=four.\nthree.=six.");
  AcceptAll();
  Say(kSynthesiser, "nine.");
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_FALSE(completed().incomplete);
  ASSERT_EQ(Decisions().size(), 1u);
  EXPECT_EQ(Decisions()[0].kind, Kind::kJoin);
  ExpectReplays();
}

TEST_F(SplitTest, APartThatIsTooLongIsMissingFromTheAnswer) {
  BeginStrategy(Strategy::kDecompose, 4);
  Say(kSplitter, "one\ntwo.");
  const auto is_long = OutOfRange("agent: a prompt of 800 tokens; the model has 512 positions");
  Refuse(AddGang(gangs_.back()), is_long);
  Refuse(AddGang(gangs_.back()), is_long);
  EXPECT_EQ(Of(gangs_.back()), std::vector{OfPart(0)});
  Refuse(AddGang(gangs_.back()), is_long);
  EXPECT_EQ(Of(gangs_.back()), (std::vector{OfPart(1), OfPart(1, 1)}));
  AcceptAll();
  Say(OfPart(1), "four.");
  Say(OfPart(1, 1), "four.");
  EXPECT_EQ(Told(gangs_.back().agents[0]), "Join What? one=\ntwo.=four.");
  AcceptAll();
  Say(kSynthesiser, "nine.");
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_TRUE(completed().incomplete);
  ExpectReplays();
}

TEST_F(SplitTest, AQuestionWhosePartsAreAllTooLongIsAskedWhole) {
  BeginStrategy(Strategy::kDecompose, 2);
  Say(kSplitter, "one\ntwo.");
  for (int gang = 0; gang < 3; ++gang) Refuse(AddGang(gangs_.back()), InvalidArgument("too long"));
  EXPECT_EQ(Of(gangs_.back()), (std::vector{Thinker(0), Thinker(1)}));
  AcceptAll();
  Say(Thinker(0), "ab.");
  Say(Thinker(1), "ab.");
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "ab.");
  EXPECT_FALSE(completed().incomplete);
  ExpectReplays();
}

TEST_F(SplitTest, BetweenRoundsALostGroupLosesNothing) {
  for (const OnLoss on_loss : {OnLoss::kResume, OnLoss::kContinue, OnLoss::kFail}) {
    request_.on_loss = on_loss;
    BeginStrategy(Strategy::kDecompose, 2);
    Say(kSplitter, "one\ntwo.");
    Lose(Unavailable("gone"));
    ASSERT_FALSE(is_done()) << failed_.value_or(absl::OkStatus());
    Place(64);
    AcceptAll();
    Say(OfPart(0), "five.");
    Say(OfPart(1), "four.");
    AcceptAll();
    Say(kSynthesiser, "nine.");
    EndFamily();

    ASSERT_TRUE(succeeded_);
    EXPECT_EQ(completed().answer, "nine.");
    EXPECT_TRUE(completed().receipt.decisions.empty());
    Forget();
  }
}

TEST_F(SplitTest, GroupsThatAreFullAreNoLossesOfALaterRound) {
  BeginStrategy(Strategy::kDecompose, 2);
  Say(kSplitter, "one\ntwo.");
  Lose(Unavailable("gone"));
  const absl::Status full =
      WithRetryAfter(ResourceExhausted("64 families; the limit is 64"), absl::Seconds(1));
  for (int tries = 0; tries < 10; ++tries) {
    ASSERT_TRUE(placing_);
    Place(64);
    Lose(full);
    ASSERT_FALSE(is_done()) << failed_.value_or(absl::OkStatus());
    Pass(limits_.retry_wait);
  }
  while (!is_done() && now_ < absl::FromUnixSeconds(1000) + 2 * limits_.resume_wait) {
    if (placing_) Place(64), Lose(full);
    Pass(limits_.retry_wait);
  }
  ASSERT_TRUE(failed_.has_value()) << "not for ever";
  EXPECT_TRUE(absl::IsUnavailable(*failed_));
}

TEST_F(SplitTest, AQuestionThatIsNotSplitKeepsItsMinimum) {
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

TEST_F(SplitTest, EachPartHasAnAgentAndALastPassJoinsThem) {
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

TEST_F(SplitTest, WhereThereAreEnoughAgentsAPartIsVotedOn) {
  ComeToParts(7);
  EXPECT_EQ(Of(gangs_[1]), (std::vector{OfPart(0, 0), OfPart(1, 0), OfPart(0, 1), OfPart(1, 1),
                                        OfPart(0, 2), OfPart(1, 2)}))
      << "each part has one before any has two";
  Say(OfPart(0, 0), "x.");
  Say(OfPart(0, 1), "five.");
  Say(OfPart(0, 2), "five.");
  for (int i = 0; i < 3; ++i) Say(OfPart(1, i), "four.");

  ASSERT_EQ(gangs_.size(), 3u);
  EXPECT_EQ(Told(gangs_[2].agents[0]), "Join What? one=five.\ntwo.=four.");
}

TEST_F(SplitTest, AQuestionThatIsNotSplitIsAskedWhole) {
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

TEST_F(SplitTest, StoppedInItsPartsTheAnswerIsWhatIsKnownOfThem) {
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

TEST_F(SplitTest, WithoutTheJoiningPassTheAnswerIsWhatIsKnownOfTheParts) {
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

TEST_F(SplitTest, StoppedWhileItIsSplitThereIsNoAnswer) {
  BeginStrategy(Strategy::kDecompose, 2);
  Say(kSplitter, "one\n");
  Tell(StopRequested{});
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "");
  EXPECT_TRUE(completed().incomplete);
  ExpectReplays();
}

TEST_F(SplitTest, APartThatIsLostIsMissingFromTheAnswer) {
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

TEST_F(SplitTest, APartWhoseAgentsEndedAtTheBarIsJoinedWithWhatTheySaid) {
  request_.confidence_bar = 1.0;
  ComeToParts(2);
  Delta barred{.attempt = attempt_, .delta = {}};
  barred.delta.agent = OfPart(0);
  barred.delta.answer = "five";
  barred.delta.tokens = {{.token = {.id = 1}, .text_end = 4}};
  barred.delta.end = AgentEnding{.cause = Finish::kBar, .sampled = 1};
  Tell(barred);
  Say(OfPart(1), "four.");
  EXPECT_EQ(Told(gangs_.back().agents[0]), "Join What? one=five\ntwo.=four.");
  AcceptAll();
  Say(kSynthesiser, "nine.");
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_TRUE(completed().incomplete) << "nobody was sure of the first part";
}

TEST_F(SplitTest, TheCheckerLooksAtTheLinesOfTheParts) {
  request_.checker = CheckerSpec{CheckerSpec::Kind::kRegex, "(?s).*four.*", {}};
  ComeToParts(2);
  Say(OfPart(1), "four.");
  Tell(StopRequested{});
  EndFamily();

  ASSERT_TRUE(succeeded_);
  EXPECT_EQ(completed().answer, "two.=four.");
  EXPECT_EQ(completed().accepted, true);
}

TEST_F(SplitTest, AQuestionForOneAgentIsNotSplit) {
  for (const int64_t total : {64 * 8, 64 * 3}) {
    request_.total_tokens = total;
    BeginStrategy(Strategy::kDecompose, total > 64 * 4 ? 1 : 2);
    EXPECT_EQ(Of(gangs_[0])[0], Thinker(0)) << total;
    Forget();
  }
}

TEST_F(SplitTest, AModelWithoutTheWordsSamples) {
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
