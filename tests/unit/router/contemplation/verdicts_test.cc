#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "common/status.h"
#include "common/status_details.h"
#include "router/contemplation/aggregation.h"
#include "router/contemplation/stop_rule.h"
#include "tests/unit/router/contemplation/led_family.h"

// Requests with a checker: what it accepts, decides.
namespace conclave::router {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr StopRule kRules[] = {StopRule::kSettled, StopRule::kBeta, StopRule::kWindow,
                               StopRule::kQuorum};

std::vector<std::string> AnswersOf(const Ballot& ballot) {
  std::vector<std::string> answers;
  for (const Vote& vote : ballot.Votes()) answers.push_back(vote.answer);
  return answers;
}

TEST(CheckedBallotTest, RejectedAnswersLoseTheirVotesToTheFirstThatIsAccepted) {
  Ballot ballot;
  ballot.Add(Thinker(0), "a");
  ballot.Add(Thinker(1), "a");
  EXPECT_THAT(AnswersOf(ballot), ElementsAre("a"));
  ballot.Add(Thinker(2), "b", 1, /*accepted=*/true);
  EXPECT_THAT(AnswersOf(ballot), ElementsAre("b"));
  ballot.Add(Thinker(3), "a");
  ballot.Add(Thinker(4), std::nullopt);
  EXPECT_THAT(AnswersOf(ballot), ElementsAre("b"));
  EXPECT_EQ(ballot.lead(), 1);
  ballot.Add(Thinker(5), "c", 1, /*accepted=*/true);
  EXPECT_THAT(AnswersOf(ballot), ElementsAre("b", "c"));
  EXPECT_THAT(ballot.accepted(), ElementsAre(Thinker(2), Thinker(5)));
  EXPECT_EQ(ballot.ends(), 6) << "an end is one, whatever it is worth";
}

TEST(CheckedBallotTest, AWindowWithARejectedAnswerIsNotUnanimous) {
  Ballot ballot;
  ballot.Add(Thinker(0), "a");
  ballot.Add(Thinker(1), "a");
  EXPECT_EQ(ballot.AgreeingInWindow(2), 2);
  ballot.Add(Thinker(2), "b", 1, /*accepted=*/true);
  ballot.Add(Thinker(3), "b");
  EXPECT_EQ(ballot.AgreeingInWindow(2), 0);
  EXPECT_EQ(ballot.AgreeingInWindow(3), 0);
}

TEST(CheckedStopRuleTest, RejectedAnswersSettleNothing) {
  Ballot ballot;
  for (int i = 0; i < 8; ++i) ballot.Add(Thinker(i), "wrong");
  for (const StopRule rule : kRules) {
    EXPECT_TRUE(Stops({.rule = rule, .votes = 4, .checked = false}, ballot, 0));
    EXPECT_FALSE(Stops({.rule = rule, .votes = 4, .checked = true}, ballot, 0));
  }
  EXPECT_FALSE(Stops({.rule = StopRule::kAccepted, .checked = true}, ballot, 0));
  EXPECT_TRUE(Stops({.rule = StopRule::kFirst, .votes = 8, .checked = true}, ballot, 0));
  for (int i = 8; i < 16; ++i) ballot.Add(Thinker(i), "right", 1, /*accepted=*/true);
  for (const StopRule rule : kRules) {
    EXPECT_TRUE(Stops({.rule = rule, .votes = 4, .checked = true}, ballot, 0));
  }
  EXPECT_TRUE(Stops({.rule = StopRule::kAccepted, .checked = true}, ballot, 9));
}

class VerdictsTest : public LedFamily {
 protected:
  VerdictsTest() {
    request_.checker = CheckerSpec{CheckerSpec::Kind::kRegex, "right[a-z]*\\.?", {}};
    request_.stop_rule = StopRule::kAccepted;
  }

  void Enter(int agents) {
    Begin(agents, 1);
    Place(agents);
    AcceptAll();
  }
  // Each says a word, in this order, all of one length.
  void SayAll(const std::vector<std::string>& words) {
    for (size_t i = 0; i < words.size() && !finished_; ++i)
      Say(Thinker(static_cast<int>(i)), words[i]);
    AcceptAll();
  }
  std::vector<std::pair<int, bool>> Verdicts() const {
    std::vector<std::pair<int, bool>> verdicts;
    for (const ClientEvent& event : events_) {
      if (const auto* verdict = std::get_if<CheckerVerdict>(&event.what)) {
        EXPECT_EQ(verdict->accepted, verdict->reason.empty());
        verdicts.emplace_back(IndexOf(event.agent), verdict->accepted);
      }
    }
    return verdicts;
  }
};

TEST_F(VerdictsTest, TheFirstAcceptedEndStopsTheRoundAndIsTheAnswer) {
  Enter(4);
  Say(Thinker(0), "wrong.");
  Say(Thinker(1), "wrong.");
  Say(Thinker(2), "rightx.");
  EXPECT_FALSE(finished_) << "agent 3 may still end before it";
  Say(Thinker(3), "so much to say");
  EXPECT_TRUE(finished_);
  EndFamily();

  EXPECT_EQ(completed().answer, "rightx.");
  EXPECT_EQ(completed().method, Aggregation::kCheck);
  EXPECT_EQ(completed().accepted, true);
  EXPECT_FALSE(completed().incomplete);
  const Receipt& receipt = completed().receipt;
  EXPECT_EQ(receipt.votes, (std::vector<Vote>{{"rightx.", 1, 1}}));
  EXPECT_EQ(receipt.agents[0].accepted, false);
  EXPECT_EQ(receipt.agents[0].weight, 0) << "its vote was taken back";
  EXPECT_EQ(receipt.agents[2].accepted, true);
  EXPECT_FALSE(receipt.agents[3].accepted) << "cut: nobody looked";
  EXPECT_EQ(receipt.agents[3].kept, 7);
  EXPECT_THAT(Verdicts(),
              ElementsAre(std::pair(0, false), std::pair(1, false), std::pair(2, true)));
}

TEST_F(VerdictsTest, AVerdictComesBehindItsAgentsEnd) {
  Enter(2);
  Say(Thinker(0), "right.");
  Say(Thinker(1), "and so on");
  const auto finished = std::find_if(events_.begin(), events_.end(), [](const ClientEvent& event) {
    return std::holds_alternative<AgentFinished>(event.what);
  });
  ASSERT_NE(finished, events_.end());
  EXPECT_TRUE(std::holds_alternative<CheckerVerdict>((finished + 1)->what));
  EXPECT_EQ((finished + 1)->agent, Thinker(0));
}

class OneRightTest : public VerdictsTest, public testing::WithParamInterface<Aggregation> {};

TEST_P(OneRightTest, BeatsManyWrongAnswers) {
  request_.stop_rule = StopRule::kNone;
  request_.aggregation = GetParam();
  Enter(4);
  SayAll({"wrong.", "wrong.", "right.", "wrong."});
  EndFamily();

  EXPECT_EQ(completed().answer, "right.");
  EXPECT_EQ(completed().accepted, true);
}

INSTANTIATE_TEST_SUITE_P(Aggregations, OneRightTest,
                         testing::Values(Aggregation::kAuto, Aggregation::kCheck,
                                         Aggregation::kVote, Aggregation::kWeightedVote));

TEST_F(VerdictsTest, OfSeveralAcceptedAnswersTheFirstCountedIsGivenThoughOthersHaveMoreVotes) {
  request_.stop_rule = StopRule::kNone;
  Enter(4);
  Say(Thinker(3), "rightz.");
  SayAll({"rightaaa.", "rightaaa.", "wrong....."});
  EndFamily();

  EXPECT_EQ(completed().answer, "rightz.");
  EXPECT_EQ(completed().method, Aggregation::kCheck);
  EXPECT_EQ(completed().receipt.votes[0].answer, "rightaaa.");
}

TEST_F(VerdictsTest, AVoteAmongAcceptedAnswersIsAVote) {
  request_.stop_rule = StopRule::kNone;
  request_.aggregation = Aggregation::kVote;
  Enter(4);
  Say(Thinker(3), "rightz.");
  SayAll({"rightaaa.", "rightaaa.", "wrong....."});
  EndFamily();

  EXPECT_EQ(completed().answer, "rightaaa.");
  EXPECT_EQ(completed().method, Aggregation::kVote);
}

TEST_F(VerdictsTest, WhereNoneIsAcceptedNoVoteIsSureAndTheSynthesisIsLookedAt) {
  Enter(3);
  SayAll({"wrong.", "wrong.", "wrong."});
  ASSERT_FALSE(finished_) << "known to be wrong, however many say so";
  AcceptAll();
  Say(kSynthesiser, "right.");
  EndFamily();

  EXPECT_EQ(completed().answer, "right.");
  EXPECT_EQ(completed().method, Aggregation::kSynthesise);
  EXPECT_EQ(completed().accepted, true);
  EXPECT_EQ(completed().receipt.agents.back().accepted, true);
  EXPECT_THAT(completed().receipt.votes, ElementsAre(Vote{"wrong.", 3, 3}))
      << "rejected answers have votes as long as none is accepted";
}

TEST_F(VerdictsTest, ASynthesisThatIsRejectedIsTheAnswerAllTheSame) {
  request_.aggregation = Aggregation::kSynthesise;
  request_.stop_rule = StopRule::kNone;
  Enter(2);
  SayAll({"right.", "wrong."});
  AcceptAll();
  const AddGang pass = gangs_.back();
  EXPECT_EQ(pass.agents[0].messages.back().parts[0].text, "What?right.")
      << "rejected answers are no candidates beside an accepted one";
  Say(kSynthesiser, "left.");
  EndFamily();

  EXPECT_EQ(completed().answer, "left.");
  EXPECT_EQ(completed().accepted, false);
}

TEST_F(VerdictsTest, TheBestAnswerSoFarIsTheAcceptedOne) {
  request_.stop_rule = StopRule::kNone;
  Enter(4);
  Say(Thinker(0), "wrong.");
  Say(Thinker(1), "wrong.");
  Say(Thinker(2), "right.");
  Say(Thinker(3), "mu");
  Tell(StopRequested{});
  EndFamily();

  EXPECT_EQ(completed().answer, "right.");
  EXPECT_TRUE(completed().incomplete);
  EXPECT_EQ(completed().method, Aggregation::kCheck);
}

TEST_F(VerdictsTest, CutAgentsThatVoteAreLookedAtToo) {
  Enter(2);
  Say(Thinker(0), "wrong");
  Say(Thinker(1), "right");
  Tell(StopRequested{});
  EndFamily();

  EXPECT_EQ(completed().answer, "right");
  EXPECT_THAT(Verdicts(), ElementsAre(std::pair(0, false), std::pair(1, true)));
}

TEST_F(VerdictsTest, WhatTheModelsOwnKeyMissesMayBeRightAsAWholeAndVotesSo) {
  model_.profile.answer_key = {AnswerKeySpec::Kind::kAnswerLine, ""};
  request_.stop_rule = StopRule::kNone;
  request_.checker->argument = "right: [0-9]+\\n?Answer: .*|RIGHT.";
  Enter(3);
  SayAll({"Answer: 7.", "right: 3\nAnswer: 7.", "RIGHT."});
  EndFamily();

  EXPECT_THAT(Verdicts(), ElementsAre(std::pair(2, true), std::pair(0, false), std::pair(1, true)));
  EXPECT_EQ(completed().answer, "RIGHT.");
  EXPECT_EQ(completed().receipt.votes,
            (std::vector<Vote>{{"right.", 1, 1}, {"right: 3 answer: 7.", 1, 1}}));
}

TEST_F(VerdictsTest, AKeyThatTheRequestNamesIsWhatIsLookedAt) {
  request_.answer_key = AnswerKeySpec{AnswerKeySpec::Kind::kBoxed, ""};
  Enter(3);
  SayAll({"\\boxed{right}..", "right..........", "\\boxed{wrong}.."});
  EXPECT_THAT(Verdicts(), ElementsAre(std::pair(0, true)));
}

TEST_F(VerdictsTest, AnAgentWithoutAnAnswerIsNotLookedAt) {
  request_.answer_key = AnswerKeySpec{AnswerKeySpec::Kind::kBoxed, ""};
  request_.stop_rule = StopRule::kNone;
  request_.aggregation = Aggregation::kVote;
  Enter(2);
  SayAll({"right.", "wrong."});
  EndFamily();

  EXPECT_THAT(Verdicts(), IsEmpty());
  EXPECT_FALSE(completed().receipt.agents[0].accepted);
  EXPECT_FALSE(completed().accepted);
}

TEST_F(VerdictsTest, AReplayComesToTheSameVerdicts) {
  Enter(4);
  Say(Thinker(0), "wrong.");
  Say(Thinker(1), "wro");
  Say(Thinker(2), "right.");
  Tell(StopRequested{});
  EndFamily();
  const Completed first = completed();
  ASSERT_FALSE(first.receipt.decisions.empty());

  Replay(first.receipt);

  ASSERT_FALSE(failed_) << *failed_;
  EXPECT_EQ(completed().answer, first.answer);
  EXPECT_EQ(completed().receipt.result_hash, first.receipt.result_hash);
  EXPECT_EQ(completed().accepted, true);
}

std::string Refusal(const Request& request) {
  ModelDescription model;
  model.name = "m";
  model.max_positions = 1024;
  const absl::Status status = MakePlan(request, model, {}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  const StatusDetails details = DetailsOf(status);
  EXPECT_EQ(details.fields.size(), 1);
  return std::string(MessageOf(status));
}

TEST(CheckerPlanTest, WhatIsWrongIsNamed) {
  Request request;
  request.messages = {{Role::kUser, {{"What?"}}}};
  request.mode = Mode::kContemplating;
  request.stop_rule = StopRule::kAccepted;
  EXPECT_EQ(Refusal(request), "contemplation.stop_rule is ACCEPTED; there is no checker");
  request.stop_rule = StopRule::kNone;
  request.aggregation = Aggregation::kCheck;
  EXPECT_EQ(Refusal(request), "contemplation.aggregation is CHECK; there is no checker");
  request.checker = CheckerSpec{CheckerSpec::Kind::kRegex, "(", {}};
  EXPECT_EQ(Refusal(request), "contemplation.checker.regex is not valid: missing ): (");
  request.checker = CheckerSpec{CheckerSpec::Kind::kArithmetic, "x", {}};
  EXPECT_EQ(Refusal(request),
            "contemplation.checker.arithmetic.value is neither an integer nor a fraction");
  request.checker = CheckerSpec{CheckerSpec::Kind::kJsonSchema, R"({"a": 1})", {}};
  EXPECT_EQ(Refusal(request),
            "contemplation.checker.json_schema is wrong at /a: it is no keyword that is known "
            "here");
}

}  // namespace
}  // namespace conclave::router
