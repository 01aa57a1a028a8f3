#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "router/contemplation/aggregation.h"
#include "tests/unit/router/contemplation/led_family.h"

// AGGREGATION_SELECT: a pass that names a candidate by its number.
namespace conclave::router {
namespace {

TEST(PickedTest, TheFirstNumberOfACandidateIsTaken) {
  EXPECT_EQ(Picked("2", 3), 1);
  EXPECT_EQ(Picked("Agent 3 is right.", 3), 2);
  EXPECT_EQ(Picked("Of 12 answers, number 2.", 3), 1) << "12 is none";
  EXPECT_EQ(Picked("007", 8), 6);
  EXPECT_EQ(Picked("1 or 2", 2), 0);
  EXPECT_EQ(Picked("4", 3), std::nullopt);
  EXPECT_EQ(Picked("0", 3), std::nullopt);
  EXPECT_EQ(Picked("none", 3), std::nullopt);
  EXPECT_EQ(Picked("", 3), std::nullopt);
  EXPECT_EQ(Picked("99999999999999999999999999991", 3), std::nullopt);
}

class SelectionTest : public LedFamily {
 protected:
  SelectionTest() {
    model_.profile.select_text = "Which of {candidates} to {question}";
    model_.profile.candidate_line = "{index}:{answer}";
    request_.aggregation = Aggregation::kSelect;
    request_.stop_rule = StopRule::kNone;
  }

  // All end; what the pass says follows.
  void Ask(const std::vector<std::string>& answers) {
    Begin(static_cast<int>(answers.size()), 1);
    Place(static_cast<int>(answers.size()));
    AcceptAll();
    for (size_t i = 0; i < answers.size(); ++i) Say(Thinker(static_cast<int>(i)), answers[i]);
    AcceptAll();
  }
};

TEST_F(SelectionTest, TheCandidateThatIsNamedIsTheAnswer) {
  Ask({"aaa.", "bbb.", "aaa."});
  ASSERT_EQ(gangs_.size(), 2u);
  EXPECT_EQ(gangs_.back().agents[0].messages.back().parts[0].text,
            "Which of 1:aaa.\n2:bbb.\n3:aaa. to What?");
  Say(kSynthesiser, "No. 2.");
  EndFamily();

  EXPECT_EQ(completed().answer, "bbb.");
  EXPECT_EQ(completed().method, Aggregation::kSelect);
  EXPECT_FALSE(completed().incomplete);
  EXPECT_EQ(completed().receipt.critical_path_tokens, 4 + 6);
  EXPECT_EQ(completed().receipt.aggregation_tokens, 6);
}

TEST_F(SelectionTest, TheClientHearsTheCandidateAndNotTheNumber) {
  Ask({"aaa.", "bbb."});
  EXPECT_EQ(CountOf<AnswerDelta>(), 0);
  Say(kSynthesiser, "1.");
  EndFamily();

  std::string streamed;
  for (const ClientEvent& event : events_) {
    const auto* delta = std::get_if<AnswerDelta>(&event.what);
    if (delta == nullptr) continue;
    EXPECT_EQ(event.agent, Thinker(0));
    streamed += delta->text;
  }
  EXPECT_EQ(streamed, "aaa.");
  EXPECT_EQ(completed().answer, "aaa.");
}

TEST_F(SelectionTest, WhereNoneIsNamedTheVoteAnswers) {
  Ask({"bbb.", "aaa.", "aaa."});
  Say(kSynthesiser, "Hard to say.");
  EndFamily();

  EXPECT_EQ(completed().answer, "aaa.");
  EXPECT_EQ(completed().method, Aggregation::kVote);
  EXPECT_FALSE(completed().incomplete);
}

TEST_F(SelectionTest, WhereAllSayTheSameNothingIsAsked) {
  Ask({"aaa.", "aaa.", "AAA."});
  EXPECT_TRUE(finished_);
  EndFamily();
  EXPECT_EQ(completed().answer, "aaa.");
  EXPECT_EQ(completed().method, Aggregation::kVote);
}

TEST_F(SelectionTest, AModelWithoutTheWordsVotes) {
  model_.profile.select_text.clear();
  Ask({"bbb.", "aaa.", "aaa."});
  EXPECT_TRUE(finished_);
  EndFamily();
  EXPECT_EQ(completed().answer, "aaa.");
  EXPECT_EQ(completed().method, Aggregation::kVote);
}

TEST_F(SelectionTest, AStopBeforeThePassHasEndedIsAnsweredByTheVote) {
  Ask({"bbb.", "aaa.", "aaa."});
  Say(kSynthesiser, "1");
  Tell(StopRequested{});
  EndFamily();

  EXPECT_EQ(completed().answer, "aaa.");
  EXPECT_TRUE(completed().incomplete);
  const Completed first = completed();

  Replay(first.receipt);

  ASSERT_FALSE(failed_) << *failed_;
  EXPECT_EQ(completed().receipt.result_hash, first.receipt.result_hash);
}

TEST_F(SelectionTest, APassThatIsSilentForTooLongIsGivenUp) {
  limits_.straggler_patience = absl::Seconds(1);
  Ask({"bbb.", "aaa.", "aaa."});
  Pass(absl::Seconds(2));
  EndFamily();
  EXPECT_EQ(completed().answer, "aaa.");
  EXPECT_EQ(completed().method, Aggregation::kVote);
}

TEST_F(SelectionTest, OfCheckedAnswersOnlyAcceptedOnesAreCandidates) {
  request_.checker = CheckerSpec{CheckerSpec::Kind::kRegex, "[ab]+\\.", {}};
  Ask({"ccc.", "aaa.", "bbb.", "ccc."});
  EXPECT_EQ(gangs_.back().agents[0].messages.back().parts[0].text,
            "Which of 1:aaa.\n2:bbb. to What?");
  Say(kSynthesiser, "2.");
  EndFamily();

  EXPECT_EQ(completed().answer, "bbb.");
  EXPECT_EQ(completed().accepted, true);
  EXPECT_FALSE(completed().receipt.agents.back().accepted) << "a number is no answer";
}

}  // namespace
}  // namespace conclave::router
