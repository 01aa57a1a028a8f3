#include "router/contemplation/digest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "router/contemplation/aggregation.h"

namespace conclave::router {
namespace {

using Texts = std::vector<std::string>;

AgentId Refiner(int index) { return MakeAgentId(kThinkStage, 1, index); }

TEST(DigestTest, EachTextHasAnEqualShareAndKeepsItsEnd) {
  EXPECT_EQ(Digest({"abcdef", "xy", "12345"}, 9), (Texts{"def", "xy", "345"}));
  EXPECT_EQ(Digest({"abc"}, 3), (Texts{"abc"}));
  EXPECT_EQ(Digest({"abc", "def"}, 0), (Texts{"", ""}));
  EXPECT_EQ(Digest({}, 9), Texts{});
}

TEST(DigestTest, NoTextBeginsWithinACharacter) {
  for (int bytes = 0; bytes <= 9; ++bytes) {
    const std::string kept = Digest({"a€b€"}, bytes).front();  // 1 + 3 + 1 + 3 bytes.

    EXPECT_LE(kept.size(), static_cast<size_t>(bytes));
    EXPECT_TRUE(kept.empty() || (static_cast<unsigned char>(kept[0]) & 0xc0u) != 0x80u) << bytes;
  }
  EXPECT_EQ(Digest({"a€b€"}, 6).front(), "b€");
}

TEST(DraftsTest, AreDrawnWithoutReplacementAndTheSameEachTime) {
  for (int i = 0; i < 50; ++i) {
    const std::vector<int> drawn = DrawDrafts(7, Refiner(i), 9, 4);

    EXPECT_EQ(drawn.size(), 4u);
    EXPECT_TRUE(std::is_sorted(drawn.begin(), drawn.end()));
    EXPECT_EQ(std::set<int>(drawn.begin(), drawn.end()).size(), 4u);
    EXPECT_TRUE(drawn.front() >= 0 && drawn.back() < 9);
    EXPECT_EQ(DrawDrafts(7, Refiner(i), 9, 4), drawn);
  }
  EXPECT_EQ(DrawDrafts(7, Refiner(0), 3, 3), (std::vector{0, 1, 2}));
  EXPECT_EQ(DrawDrafts(7, Refiner(0), 0, 3), std::vector<int>{});
}

TEST(DraftsTest, EachSubsetIsDrawnAboutEquallyOften) {
  std::map<std::vector<int>, int> drawn;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    for (int i = 0; i < 60; ++i) ++drawn[DrawDrafts(seed, Refiner(i), 4, 2)];
  }

  ASSERT_EQ(drawn.size(), 6u);
  // 6,000 draws of six subsets: 1,000 each, give or take 29 (one standard deviation).
  for (const auto& [subset, times] : drawn) EXPECT_NEAR(times, 1000, 150);
}

// A golden draw: a change of it is a change of what refining agents are told.
TEST(DraftsTest, ADrawIsWhatItWas) {
  EXPECT_EQ(DrawDrafts(42, Refiner(0), 8, 3), (std::vector{1, 5, 6}));
}

TEST(PartsTest, AreTheLinesOfTheAnswer) {
  EXPECT_EQ(PartsOf("What is 1+1?\n\n  What is 2+2? \n", 8),
            (Texts{"What is 1+1?", "What is 2+2?"}));
  EXPECT_EQ(PartsOf("1. What?\n2) Why?\n", 8), (Texts{"What?", "Why?"}));
  EXPECT_EQ(PartsOf("- What?\n* Why?", 8), (Texts{"What?", "Why?"}));
  EXPECT_EQ(PartsOf("-3 plus 2?\n4 minus 1?", 8), (Texts{"-3 plus 2?", "4 minus 1?"}));
  EXPECT_EQ(PartsOf("1. What?\nWhy?", 8), (Texts{"1. What?", "Why?"})) << "no list";
}

TEST(PartsTest, OneLineOrTooManyOrTooLongOnesAreNone) {
  EXPECT_EQ(PartsOf("", 8), Texts{});
  EXPECT_EQ(PartsOf("What is it?\n", 8), Texts{});
  EXPECT_EQ(PartsOf("a\nb\nc", 2), Texts{});
  EXPECT_EQ(PartsOf("a\nb\nc", 3).size(), 3u);
  EXPECT_EQ(PartsOf("a\n" + std::string(4097, 'b'), 8), Texts{});
  EXPECT_EQ(PartsOf("a\n" + std::string(4096, 'b'), 8).size(), 2u);
}

TEST(PassesTest, AreToldInTheWordsOfTheProfile) {
  PromptProfile profile;
  profile.candidate_line = "[{index}] {answer}";
  profile.aggregate_text = "Merge {question}: {candidates}";
  profile.split_text = "Split {question}";
  profile.join_text = "Join {question}: {candidates}";
  profile.join_line = "{index} {part}={answer}";
  const std::vector<Message> asked = {{Role::kSystem, {{"Be brief."}}}, {Role::kUser, {{"why?"}}}};
  const auto told = [](const std::vector<Message>& messages) {
    EXPECT_EQ(messages.size(), 2u);
    EXPECT_EQ(TextOf(messages.front()), "Be brief.");
    return TextOf(messages.back());
  };

  EXPECT_EQ(told(RefineMessages(profile, asked, {"a", "b"})), "Merge why?: [1] a\n[2] b");
  profile.refine_text = "{question} Drafts: {candidates}";
  EXPECT_EQ(told(RefineMessages(profile, asked, {"a"})), "why? Drafts: [1] a");
  EXPECT_EQ(told(SplitMessages(profile, asked)), "Split why?");
  EXPECT_EQ(told(PartMessages(asked, "how?")), "how?");
  EXPECT_EQ(told(JoinMessages(profile, asked, {{"how?", "so"}, {"{answer}", ""}})),
            "Join why?: 1 how?=so\n2 {answer}=");
}

}  // namespace
}  // namespace conclave::router
