#include "router/fleet/placement.h"

#include <gtest/gtest.h>

#include <set>

namespace conclave::router {
namespace {

GroupView Group(const std::string& address, int credits, int64_t queued = 0) {
  auto description = std::make_shared<GroupDescription>();
  description->model.name = "m";
  description->model.fingerprint = "f";
  GroupView view;
  view.address = address;
  view.reachable = true;
  view.description = std::move(description);
  view.load.ready = true;
  view.load.credits = credits;
  view.load.queued_prompt_tokens = queued;
  return view;
}

PlacementQuestion Question(int agents = 1) {
  PlacementQuestion question;
  question.model = "m";
  question.agents = agents;
  question.prompt_tokens = 100;
  return question;
}

TEST(PlacementTest, OnlyAGroupThatServesTheModelAndHasRoomTakesAFamily) {
  EXPECT_EQ(Place({Group("a", 8)}, Question(8)), 0);
  EXPECT_EQ(Place({Group("a", 7)}, Question(8)), std::nullopt);
  EXPECT_EQ(Place({}, Question()), std::nullopt);

  GroupView other = Group("a", 8);
  auto description = std::make_shared<GroupDescription>(*other.description);
  description->model.name = "n";
  other.description = std::move(description);
  EXPECT_EQ(Place({other}, Question()), std::nullopt);

  GroupView gone = Group("a", 8);
  gone.reachable = false;
  EXPECT_EQ(Place({gone}, Question()), std::nullopt);
  GroupView starting = Group("a", 8);
  starting.load.ready = false;
  EXPECT_EQ(Place({starting}, Question()), std::nullopt);
  GroupView unknown = Group("a", 8);
  unknown.description = nullptr;
  EXPECT_EQ(Place({unknown}, Question()), std::nullopt);
}

TEST(PlacementTest, AFamilyThatRanElsewhereGoesToItsFingerprintOnly) {
  PlacementQuestion question = Question();
  question.fingerprint = "g";
  EXPECT_EQ(Place({Group("a", 8)}, question), std::nullopt);
  question.fingerprint = "f";
  EXPECT_EQ(Place({Group("a", 8)}, question), 0);
}

TEST(PlacementTest, OnePrefixAlwaysGoesToOneGroupAndManyPrefixesToAll) {
  const std::vector<GroupView> groups = {Group("a", 8), Group("b", 8), Group("c", 8)};
  std::vector<int> taken(3, 0);
  for (uint64_t prefix = 0; prefix < 3000; ++prefix) {
    PlacementQuestion question = Question();
    question.prefix = prefix;
    const auto group = Place(groups, question);
    ASSERT_TRUE(group);
    EXPECT_EQ(Place(groups, question), group);
    ++taken[static_cast<size_t>(*group)];
  }
  for (const int count : taken) EXPECT_NEAR(count, 1000, 150);
}

TEST(PlacementTest, AGroupThatLeavesMovesOnlyItsOwnPrefixes) {
  std::vector<GroupView> groups = {Group("a", 8), Group("b", 8), Group("c", 8)};
  for (uint64_t prefix = 0; prefix < 1000; ++prefix) {
    PlacementQuestion question = Question();
    question.prefix = prefix;
    groups[2].reachable = true;
    const auto before = Place(groups, question);
    groups[2].reachable = false;
    const auto after = Place(groups, question);
    if (before != 2) {
      EXPECT_EQ(after, before);
    }
  }
}

TEST(PlacementTest, AFavouriteWhoseQueueCostsMoreThanThePromptIsPassedBy) {
  PlacementQuestion question = Question();
  std::vector<GroupView> groups = {Group("a", 8), Group("b", 8)};
  const int favourite = *Place(groups, question);
  GroupLoad& load = groups[static_cast<size_t>(favourite)].load;
  load.queued_prompt_tokens = question.prompt_tokens;
  EXPECT_EQ(Place(groups, question), favourite);
  load.queued_prompt_tokens = question.prompt_tokens + 1;
  EXPECT_EQ(Place(groups, question), 1 - favourite);
}

TEST(PlacementTest, AllTurnsOfAConversationHaveOnePrefix) {
  const Message system{Role::kSystem, {{"Be brief."}}};
  const Message first{Role::kUser, {{"Hello"}}};
  const Message reply{Role::kAssistant, {{"Hi"}}};
  const Message second{Role::kUser, {{"And now?"}}};
  EXPECT_EQ(PrefixOf({system, first}), PrefixOf({system, first, reply, second}));
  EXPECT_NE(PrefixOf({system, first}), PrefixOf({system, second}));
  EXPECT_NE(PrefixOf({system, first}), PrefixOf({first}));
}

TEST(PlacementTest, TokensAreEstimatedFromBytes) {
  EXPECT_EQ(EstimateTokens({}), 1);
  EXPECT_EQ(EstimateTokens({{Role::kUser, {{std::string(400, 'x')}}}}), 101);
}

}  // namespace
}  // namespace conclave::router
