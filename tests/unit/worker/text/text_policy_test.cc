#include "worker/text/text_policy.h"

#include <gtest/gtest.h>

#include <random>

#include "tests/unit/worker/text/small_tokenizer.h"

namespace conclave::worker {
namespace {

constexpr TokenId kStopToken = 259;   // "<s>"
constexpr TokenId kThinkToken = 260;  // "<think>"

// The words of Muse's messages, all of them special.
constexpr TokenId kStart = 261, kMessage = 262, kEom = 263;

std::unique_ptr<Tokenizer> MakeTokenizer() {
  nlohmann::json file = SmallFile();
  for (const auto& [id, text] : {std::pair{kStart, "<|start|>"}, std::pair{kMessage, "<|message|>"},
                                 std::pair{kEom, "<|eom|>"}}) {
    file["added_tokens"].push_back({{"id", id}, {"content", text}, {"special", true}});
  }
  return *Tokenizer::Parse(file.dump(), "t.json");
}

// One agent: what it said, and the last verdict. Text is fed a byte a token, so that every marker
// is split.
class Agent {
 public:
  explicit Agent(TextPolicyOptions options)
      : tokenizer_(MakeTokenizer()),
        trace_(std::make_shared<TextTrace>()),
        policy_(*tokenizer_, std::move(options), trace_) {}

  // Stops feeding at a verdict other than kContinue.
  const Verdict& Feed(std::string_view text) {
    for (const char c : text) {
      if (FeedToken(static_cast<unsigned char>(c)).kind != Verdict::Kind::kContinue) break;
    }
    return verdict_;
  }
  const Verdict& FeedToken(TokenId id) {
    verdict_ = policy_.OnToken({.id = id});
    const TextPiece piece = trace_->Take(count_++);
    thinking_ += piece.thinking;
    answer_ += piece.answer;
    EXPECT_EQ(piece.text_end, static_cast<int64_t>(thinking_.size() + answer_.size()));
    ends_.push_back(piece.text_end);
    return verdict_;
  }
  // Feeds back what the policy forces.
  void FeedForced() {
    const std::vector<TokenId> forced = verdict_.force;
    for (const TokenId id : forced) FeedToken(id);
  }

  const std::string& thinking() const { return thinking_; }
  const std::string& answer() const { return answer_; }
  const Verdict& verdict() const { return verdict_; }
  const std::vector<int64_t>& ends() const { return ends_; }
  int count() const { return count_; }

 private:
  std::unique_ptr<Tokenizer> tokenizer_;
  std::shared_ptr<TextTrace> trace_;
  TextPolicy policy_;
  Verdict verdict_;
  std::string thinking_, answer_;
  std::vector<int64_t> ends_;
  int count_ = 0;
};

std::vector<TokenId> BytesOf(std::string_view text) {
  std::vector<TokenId> ids;
  for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
  return ids;
}

TextPolicyOptions Thinking(Opening opening = Opening::kMayThink) {
  TextPolicyOptions options;
  options.markers = {"<think>", "</think>", BytesOf("\n</think>\n\n")};
  options.opening = opening;
  options.stop_tokens = {kStopToken};
  return options;
}

TextPolicyOptions Answering() { return Thinking(Opening::kAnswer); }

using Kind = Verdict::Kind;

TEST(TextPolicyTest, TellsThinkingFromAnswer) {
  Agent agent(Thinking());

  agent.Feed("<think>\n3*4=12\n\n</think>\n\n12\n");

  EXPECT_EQ(agent.thinking(), "3*4=12");
  EXPECT_EQ(agent.answer(), "12\n");
}

TEST(TextPolicyTest, KnowsAMarkerThatIsOneToken) {
  Agent agent(Thinking());

  agent.FeedToken(kThinkToken);
  agent.Feed("\nhm\n</think>ok");

  EXPECT_EQ(agent.thinking(), "hm");
  EXPECT_EQ(agent.answer(), "ok");
}

TEST(TextPolicyTest, StartsInsideTheThinkingThatThePromptOpened) {
  Agent agent(Thinking(Opening::kThinking));

  agent.Feed("\nhm</think>ok");

  EXPECT_EQ(agent.thinking(), "hm");
  EXPECT_EQ(agent.answer(), "ok");
}

TEST(TextPolicyTest, TakesTextWithoutStartMarkerAsAnswer) {
  Agent agent(Thinking());

  agent.Feed("\n <this> is it</think>");

  EXPECT_EQ(agent.answer(), " <this> is it</think>");
  EXPECT_EQ(agent.thinking(), "");
}

TEST(TextPolicyTest, WithholdsWhatMayBecomeAMarker) {
  Agent agent(Thinking(Opening::kThinking));

  agent.Feed("a\n</thin");
  EXPECT_EQ(agent.thinking(), "a");
  agent.Feed("g");
  EXPECT_EQ(agent.thinking(), "a\n</thing");
}

TEST(TextPolicyTest, StopsAtAStopTokenWithoutText) {
  Agent agent(Answering());

  agent.Feed("42");
  const Verdict verdict = agent.FeedToken(kStopToken);

  EXPECT_EQ(verdict.kind, Kind::kStop);
  EXPECT_EQ(verdict.finish, Finish::kStop);
  EXPECT_EQ(verdict.trailing, 1);
  EXPECT_EQ(agent.answer(), "42");
}

TEST(TextPolicyTest, StopsAtAStopTextAndKeepsItOut) {
  TextPolicyOptions options = Answering();
  options.stop = {"\n\nUser", "zz"};
  Agent agent(options);

  const Verdict verdict = agent.Feed("\nyes\n\nUser: more");

  EXPECT_EQ(verdict.kind, Kind::kStop);
  EXPECT_EQ(verdict.trailing, 6);
  EXPECT_EQ(agent.answer(), "yes");
  EXPECT_EQ(agent.count(), 10);
}

TEST(TextPolicyTest, SaysWhatStoppedIt) {
  TextPolicyOptions options = Answering();
  options.end_tokens = {kStopToken};
  options.stop_tokens = {'#', kStopToken};
  options.stop = {"zz", "z", "yz"};

  EXPECT_EQ(Agent(options).FeedToken(kStopToken).cause,
            (StopCause{.kind = StopCause::Kind::kEndToken, .token = kStopToken}));
  EXPECT_EQ(Agent(options).FeedToken('#').cause,
            (StopCause{.kind = StopCause::Kind::kStopToken, .token = '#'}));
  EXPECT_EQ(Agent(options).Feed("xyz").cause,
            (StopCause{.kind = StopCause::Kind::kStopText, .text = "yz"}));
  options.budget.answer_tokens = 1;
  EXPECT_EQ(Agent(options).Feed("x").cause, StopCause{});
}

// What waits when the end comes may be a stop text after all.
TEST(TextPolicyTest, ReportsAStopTextRatherThanTheTokenBehindIt) {
  TextPolicyOptions options = Answering();
  options.stop = {"\xEF\xBF\xBD"};  // What half a character becomes.
  Agent agent(options);

  agent.Feed("a\xC3");
  const Verdict verdict = agent.FeedToken(kStopToken);

  EXPECT_EQ(verdict.cause.kind, StopCause::Kind::kStopText);
  EXPECT_EQ(verdict.trailing, 2);
  EXPECT_EQ(agent.answer(), "a");
}

TEST(TextPolicyTest, HearsNoStopTokenBeforeTheMinimum) {
  TextPolicyOptions options = Answering();
  options.budget.min_tokens = 3;
  Agent agent(options);

  EXPECT_EQ(agent.FeedToken(kStopToken).kind, Kind::kContinue);
  EXPECT_EQ(agent.Feed("ab").kind, Kind::kContinue);
  EXPECT_EQ(agent.FeedToken(kStopToken).kind, Kind::kStop);
  EXPECT_EQ(agent.answer(), "ab");
}

TEST(TextPolicyTest, LooksForStopTextsBehindTheMinimumOnly) {
  TextPolicyOptions options = Answering();
  options.stop = {"zz"};
  options.budget.min_tokens = 3;
  Agent agent(options);

  EXPECT_EQ(agent.Feed("zzz").kind, Kind::kContinue);
  EXPECT_EQ(agent.answer(), "zzz");  // Nothing of it waits.
  EXPECT_EQ(agent.Feed("z").kind, Kind::kContinue);
  EXPECT_EQ(agent.Feed("z").kind, Kind::kStop);
  EXPECT_EQ(agent.answer(), "zzz");
  EXPECT_EQ(agent.verdict().trailing, 2);
}

TEST(TextPolicyTest, CountsThinkingTowardsTheMinimum) {
  TextPolicyOptions options = Thinking(Opening::kThinking);
  options.stop = {"4"};
  options.budget.min_tokens = 10;
  Agent agent(options);

  agent.Feed("4</think>4");
  EXPECT_EQ(agent.verdict().kind, Kind::kContinue);
  EXPECT_EQ(agent.Feed("4").kind, Kind::kStop);
  EXPECT_EQ(agent.answer(), "4");
}

TEST(TextPolicyTest, CountsNoTokenAsTrailingThatAlsoHoldsAnswer) {
  TextPolicyOptions options = Answering();
  options.stop = {"ll"};
  Agent agent(options);

  EXPECT_EQ(agent.FeedToken(258).trailing, 0);  // "hell"
  EXPECT_EQ(agent.answer(), "he");
}

TEST(TextPolicyTest, ReleasesAPossibleStopTextOnceItIsNone) {
  TextPolicyOptions options = Answering();
  options.stop = {"<end>"};
  Agent agent(options);

  agent.Feed("a<en");
  EXPECT_EQ(agent.answer(), "a");
  agent.Feed("t");
  EXPECT_EQ(agent.answer(), "a<ent");
}

TEST(TextPolicyTest, ReleasesAPossibleStopTextAtTheEnd) {
  TextPolicyOptions options = Answering();
  options.stop = {"<end>"};
  Agent agent(options);

  agent.Feed("a<en");
  agent.FeedToken(kStopToken);

  EXPECT_EQ(agent.answer(), "a<en");
}

TEST(TextPolicyTest, LooksForStopTextsInTheAnswerOnly) {
  TextPolicyOptions options = Thinking();
  options.stop = {"4"};
  Agent agent(options);

  agent.Feed("<think>1+3=4</think>");
  EXPECT_EQ(agent.verdict().kind, Kind::kContinue);
  EXPECT_EQ(agent.Feed("4").kind, Kind::kStop);
}

TEST(TextPolicyTest, ForcesTheEndOfThinkingAtTheExactCount) {
  TextPolicyOptions options = Thinking();
  options.budget.thinking_tokens = 9;
  Agent agent(options);

  agent.Feed("<think>a");
  EXPECT_EQ(agent.verdict().kind, Kind::kContinue);
  const Verdict verdict = agent.Feed("b");

  EXPECT_EQ(verdict.kind, Kind::kForce);
  EXPECT_EQ(verdict.force, BytesOf("\n</think>\n\n"));
  agent.FeedForced();
  agent.Feed("7");
  EXPECT_EQ(agent.verdict().kind, Kind::kContinue);
  EXPECT_EQ(agent.thinking(), "ab");
  EXPECT_EQ(agent.answer(), "7");
}

TEST(TextPolicyTest, SaysWhileItThinksThatItMayBeAsked) {
  Agent agent(Thinking());
  EXPECT_FALSE(agent.Feed("<think").thinks);
  EXPECT_TRUE(agent.Feed(">").thinks);
  EXPECT_TRUE(agent.Feed("so</think").thinks);
  EXPECT_FALSE(agent.Feed(">").thinks);
  EXPECT_FALSE(agent.Feed("42").thinks);
}

// As a copy of an agent is: told the end of thinking, which no stop token within it cuts short.
TEST(TextPolicyTest, AnswersAtOnceWhenItIsAsked) {
  TextPolicyOptions options = Thinking(Opening::kAsked);
  options.markers.force_end.push_back(kStopToken);
  options.budget.answer_tokens = 3;
  const std::vector<TokenId> end = options.markers.force_end;
  Agent agent(std::move(options));

  for (const TokenId id : end) {
    EXPECT_EQ(agent.FeedToken(id).kind, Verdict::Kind::kContinue);
    EXPECT_FALSE(agent.verdict().thinks);
  }
  agent.Feed("1234");

  EXPECT_EQ(agent.answer(), "123");
  EXPECT_EQ(agent.verdict().finish, Finish::kLength);
}

TEST(TextPolicyTest, ForcesNothingWhenTheThinkingEndsAtTheLastMoment) {
  TextPolicyOptions options = Thinking(Opening::kThinking);
  options.budget.thinking_tokens = 9;
  Agent agent(options);

  EXPECT_EQ(agent.Feed("a</think>").kind, Kind::kContinue);
  EXPECT_EQ(agent.Feed("b").kind, Kind::kContinue);
}

TEST(TextPolicyTest, ForcesTheEndEvenBeforeTheAgentShowedThatItThinks) {
  TextPolicyOptions options = Thinking();
  options.budget.thinking_tokens = 3;
  Agent agent(options);

  EXPECT_EQ(agent.Feed(" <t").kind, Kind::kForce);
  agent.FeedForced();
  agent.Feed("x");
  EXPECT_EQ(agent.thinking(), " <t");
  EXPECT_EQ(agent.answer(), "x");
}

TEST(TextPolicyTest, CountsForcedTokensNeitherAsThinkingNorAsAnswer) {
  TextPolicyOptions options = Thinking(Opening::kThinking);
  options.budget = {.thinking_tokens = 2, .answer_tokens = 3};
  Agent agent(options);

  agent.Feed("ab");
  agent.FeedForced();
  EXPECT_EQ(agent.Feed("12").kind, Kind::kContinue);
  const Verdict verdict = agent.Feed("3");

  EXPECT_EQ(verdict.kind, Kind::kStop);
  EXPECT_EQ(verdict.finish, Finish::kLength);
  EXPECT_EQ(verdict.trailing, 0);
  EXPECT_EQ(agent.answer(), "123");
}

TEST(TextPolicyTest, CountsLineBreaksBehindTheMarkerAsAnswerTokens) {
  TextPolicyOptions options = Thinking(Opening::kThinking);
  options.budget.answer_tokens = 3;
  Agent agent(options);

  EXPECT_EQ(agent.Feed("a</think>\n\n1").finish, Finish::kLength);
  EXPECT_EQ(agent.answer(), "1");
}

TEST(TextPolicyTest, PrefersAStopTokenToTheBudget) {
  TextPolicyOptions options = Answering();
  options.budget.answer_tokens = 2;
  Agent agent(options);

  agent.Feed("1");
  EXPECT_EQ(agent.FeedToken(kStopToken).finish, Finish::kStop);
}

TEST(TextPolicyTest, ReplacesHalfACharacterAtItsOwnEndOnly) {
  Agent agent(Answering());

  agent.Feed("a\xC3");
  EXPECT_EQ(agent.answer(), "a");
  agent.FeedToken(kStopToken);
  EXPECT_EQ(agent.answer(), "a\xEF\xBF\xBD");
}

TEST(TextPolicyTest, StopsWhenTheBoxIsClosed) {
  TextPolicyOptions options = Thinking(Opening::kThinking);
  options.stop_at_answer = *AnswerKey::Parse({AnswerKeySpec::Kind::kBoxed, ""});
  Agent agent(options);

  agent.Feed("\\boxed{1}</think>so \\boxed{\\frac{1}{2}} and on");

  EXPECT_EQ(agent.verdict().kind, Kind::kStop);
  EXPECT_EQ(agent.answer(), "so \\boxed{\\frac{1}{2}}");
}

TEST(TextPolicyTest, StopsWhenTheAnswerLineHasEnded) {
  TextPolicyOptions options = Answering();
  options.stop_at_answer = *AnswerKey::Parse({AnswerKeySpec::Kind::kAnswerLine, ""});
  Agent agent(options);

  EXPECT_EQ(agent.Feed("so\nAnswer: 42").kind, Kind::kContinue);
  EXPECT_EQ(agent.Feed("\n").kind, Kind::kStop);
}

TextPolicyOptions Muse() {
  TextPolicyOptions options;
  options.markers = {.start = "to=self<|message|>",
                     .end = "<|eom|><|start|>assistant to=user<|message|>",
                     .force_end = {},
                     .answer_start = "to=user<|message|>"};
  options.opening = Opening::kMayThink;
  options.end_tokens = {kStopToken};
  return options;
}

TEST(TextPolicyTest, ReadsMarkersOfSeveralSpecialTokens) {
  Agent agent(Muse());

  agent.Feed(" to=self");
  agent.FeedToken(kMessage);
  agent.Feed("3*4");
  agent.FeedToken(kEom);
  agent.FeedToken(kStart);
  agent.Feed("assistant to=user");
  agent.FeedToken(kMessage);
  agent.Feed("12");

  EXPECT_EQ(agent.thinking(), "3*4");
  EXPECT_EQ(agent.answer(), "12");
}

TEST(TextPolicyTest, TakesOffWhatStandsInFrontOfAnAnswerWithoutThinking) {
  Agent agent(Muse());

  agent.Feed(" to=user");
  EXPECT_EQ(agent.answer(), "");
  agent.FeedToken(kMessage);
  agent.Feed("12");

  EXPECT_EQ(agent.thinking(), "");
  EXPECT_EQ(agent.answer(), "12");
}

TEST(TextPolicyTest, TakesTextWithoutAnyMarkAsAnswer) {
  Agent agent(Muse());

  agent.Feed(" to=usx");

  EXPECT_EQ(agent.answer(), " to=usx");
}

TEST(TextTraceTest, DropsPiecesOfTokensThatAreNotReported) {
  TextTrace trace;
  trace.Put({0, "", "ab", 2});
  trace.Put({1, "", "c", 3});

  EXPECT_EQ(trace.Take(1), (TextPiece{1, "", "c", 3}));
  EXPECT_EQ(trace.Take(2), (TextPiece{2, "", "", 3}));
}

// Everything that a policy says must follow from the tokens alone, and its text must be theirs.
TEST(TextPolicyTest, SaysTheSameForTheSameTokensAndLosesNoByte) {
  std::mt19937 random(3);
  static constexpr std::string_view kPieces[] = {"<think>", "</think>", "\n", "<",   "a",
                                                 "</th",    "\xC3\xA9", "x",  "\xC3"};
  for (int round = 0; round < 300; ++round) {
    std::string text;
    for (size_t n = random() % 12; n > 0; --n) text += kPieces[random() % std::size(kPieces)];
    TextPolicyOptions options = Thinking();
    options.stop = {"xa", "x\n"};
    Agent first(options), second(options);
    first.Feed(text);
    second.Feed(text);

    EXPECT_EQ(first.ends(), second.ends());
    EXPECT_EQ(first.thinking() + first.answer(), second.thinking() + second.answer());
    EXPECT_LE(first.thinking().size() + first.answer().size(), 3 * text.size());
  }
}

}  // namespace
}  // namespace conclave::worker
