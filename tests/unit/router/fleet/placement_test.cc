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
  view.address_hash = HashOfAddress(address);
  view.reachable = true;
  view.description = std::move(description);
  view.load.ready = true;
  view.load.credits = credits;
  view.load.queued_prompt_tokens = queued;
  return view;
}

const absl::Time kNow = absl::UnixEpoch() + absl::Hours(1);

std::optional<int> Place(const std::vector<GroupView>& groups, const PlacementQuestion& question) {
  std::vector<const GroupView*> views;
  for (const GroupView& group : groups) views.push_back(&group);
  return Place(views, question, kNow);
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
  GroupView leaving = Group("a", 8);
  leaving.leaving = true;
  EXPECT_EQ(Place({leaving}, Question()), std::nullopt);
  GroupView unknown = Group("a", 8);
  unknown.description = nullptr;
  EXPECT_EQ(Place({unknown}, Question()), std::nullopt);
}

TEST(PlacementTest, WhereAgentsAreDearAFamilyThatCanBeNarrowerGoesWithLessRoom) {
  GroupView busy = Group("a", 3);
  busy.load.agents_running = 61;
  PlacementQuestion question = Question(8);
  EXPECT_EQ(Place({busy}, question), std::nullopt) << "all of it or nothing";
  question.least = 1;
  EXPECT_EQ(Place({busy}, question), 0) << "one is worth its price there";
  question.least = 4;
  EXPECT_EQ(Place({busy}, question), std::nullopt);
  busy.load.agents_running = 0;  // A small group is not a dear one.
  question.least = 1;
  EXPECT_EQ(Place({busy}, question), std::nullopt);

  auto large = std::make_shared<GroupDescription>(*busy.description);
  large->model.max_agents = 128;
  busy.description = large;
  busy.load.agents_running = 61;
  EXPECT_EQ(Place({busy}, question), std::nullopt) << "it takes few now, and has places for all";
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

TEST(PlacementTest, AQueueIsPaidUpToThePriceOfAPrefillAndNotATokenMore) {
  struct Case {
    int64_t prompt, favourites_queue, others_queue;
    bool favourite;
  };
  for (const Case& each :
       {Case{100, 0, 0, true}, Case{100, 100, 0, true}, Case{100, 101, 0, false},
        Case{1, 2, 0, false}, Case{5000, 5000, 0, true}, Case{5000, 5001, 0, false},
        Case{100, 700, 600, true}, Case{100, 701, 600, false}, Case{100, 500, 900, true}}) {
    PlacementQuestion question = Question();
    question.prompt_tokens = each.prompt;
    std::vector<GroupView> groups = {Group("a", 8), Group("b", 8), Group("c", 8)};
    const int favourite = *Place(groups, question);
    for (GroupView& group : groups) group.load.queued_prompt_tokens = each.others_queue;
    groups[static_cast<size_t>(favourite)].load.queued_prompt_tokens = each.favourites_queue;
    EXPECT_EQ(Place(groups, question) == favourite, each.favourite)
        << each.prompt << " " << each.favourites_queue << " " << each.others_queue;
  }
}

TEST(PlacementTest, AFavouriteWithoutRoomGivesWayToTheShortestQueueOrTheNextInLine) {
  std::vector<GroupView> groups = {Group("a", 8), Group("b", 8), Group("c", 8)};
  const int favourite = *Place(groups, Question(4));
  groups[static_cast<size_t>(favourite)].load.credits = 3;
  const int second = *Place(groups, Question(4));
  EXPECT_NE(second, favourite);
  EXPECT_EQ(Place(groups, Question(4)), second);
  groups[static_cast<size_t>(second)].load.queued_prompt_tokens = 101;
  EXPECT_EQ(Place(groups, Question(4)), 3 - favourite - second);
}

TEST(PlacementTest, AGroupThatRestsIsPassedByUntilAllOfThemRest) {
  std::vector<GroupView> groups = {Group("a", 8), Group("b", 8)};
  const int favourite = *Place(groups, Question());
  GroupView& tired = groups[static_cast<size_t>(favourite)];
  tired.rests_until = kNow + absl::Seconds(1);
  EXPECT_EQ(Place(groups, Question()), 1 - favourite);

  // A full group that is awake is waited for; one of another fingerprint is not.
  GroupView& other = groups[static_cast<size_t>(1 - favourite)];
  other.load.credits = 0;
  EXPECT_EQ(Place(groups, Question()), std::nullopt);
  auto description = std::make_shared<GroupDescription>(*other.description);
  description->model.fingerprint = "g";
  other.description = std::move(description);
  PlacementQuestion question = Question();
  question.fingerprint = "f";
  EXPECT_EQ(Place(groups, question), favourite);

  tired.rests_until = kNow;
  EXPECT_EQ(Place(groups, Question()), favourite);
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
