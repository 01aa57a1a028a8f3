#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>

#include "router/fleet/fleet.h"
#include "tests/unit/router/fleet/fleet_rig.h"

namespace conclave::router {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class FleetMembersTest : public FleetRig {};

TEST_F(FleetMembersTest, MembersComeAndGoWhileTheFleetRuns) {
  Make(2);
  events_.resize(3);
  runs_.resize(3);
  for (int i = 0; i < 2; ++i) Describe(i, "m");
  for (int i = 0; i < 2; ++i) Load(i, 8);
  EXPECT_THAT(metrics_.Text(), HasSubstr("conclave_groups 2"));

  fleet_->SetMembers({"g:1", "g:2"}, Maker());
  EXPECT_THAT(joined_, ElementsAre("g:2"));
  const std::vector<GroupView> views = fleet_->View();
  ASSERT_EQ(views.size(), 2u);
  EXPECT_EQ(views[0].address, "g:1");
  EXPECT_EQ(views[0].number, 1);
  EXPECT_EQ(views[1].address, "g:2");
  EXPECT_EQ(views[1].number, 2);
  EXPECT_THAT(metrics_.Text(), Not(HasSubstr("{group=\"g:0\"}"))) << "its series left with it";
  EXPECT_THAT(metrics_.Text(), HasSubstr("conclave_group_ready{group=\"g:1\"} 1"));

  // A number is never given again, and a forgotten one is not there.
  fleet_->SetMembers({"g:0", "g:1", "g:2"}, Maker());
  EXPECT_EQ(fleet_->View().back().number, 3);
  EXPECT_EQ(fleet_->View(0).description, nullptr);
  const auto ends = std::make_shared<Ends>();
  EXPECT_EQ(fleet_->Open(0, {}, ends), nullptr);
  EXPECT_EQ(ends->lost.code(), absl::StatusCode::kUnavailable);
}

TEST_F(FleetMembersTest, AGroupThatLeftKeepsItsFamiliesAndTakesNoNewOnes) {
  Make(2);
  for (int i = 0; i < 2; ++i) Describe(i, "m");
  for (int i = 0; i < 2; ++i) Load(i, 8);
  const auto ends = std::make_shared<Ends>();
  auto run = fleet_->Open(0, {}, ends);

  fleet_->SetMembers({"g:1"}, Maker());
  EXPECT_TRUE(fleet_->View(0).leaving);
  EXPECT_THAT(metrics_.Text(), HasSubstr("conclave_groups_leaving 1"));
  Load(0, 8);
  std::vector<std::unique_ptr<Fleet::Waiting>> waiting;
  std::vector<int> places;
  for (int i = 0; i < 8; ++i) waiting.push_back(Place(1, places));
  EXPECT_EQ(places, std::vector<int>(8, 1));
  runs_[0]->OnFamilyEnd({});
  EXPECT_TRUE(ends->ended);
  EXPECT_TRUE(ends->lost.ok());

  run.reset();
  fleet_->SetMembers({"g:1"}, Maker());
  EXPECT_EQ(fleet_->View().size(), 1u);
}

TEST_F(FleetMembersTest, AGroupThatComesBackWhileItStillServesIsTheSameOne) {
  Make(1);
  Describe(0, "m");
  Load(0, 8);
  const auto run = fleet_->Open(0, {}, std::make_shared<Ends>());
  fleet_->SetMembers({}, Maker());
  std::vector<int> places;
  const auto waiting = Place(1, places);
  EXPECT_TRUE(places.empty());
  fleet_->SetMembers({"g:0"}, Maker());
  EXPECT_THAT(places, ElementsAre(0));
  EXPECT_THAT(joined_, ElementsAre());
}

// 1,000 groups, 12,500 families of 8 agents in flight at once: 100,000 agents.
TEST_F(FleetMembersTest, AThousandGroupsTakeAHundredThousandAgents) {
  constexpr int kGroups = 1000, kFamilies = 12'500, kAgents = 8, kRoom = 104;
  Make(kGroups);
  for (int i = 0; i < kGroups; ++i) Describe(i, "m");
  for (int i = 0; i < kGroups; ++i) Load(i, kRoom);
  std::vector<std::unique_ptr<Fleet::Waiting>> waiting;
  std::vector<int> families(kGroups, 0);
  const absl::Time begin = absl::Now();
  for (int i = 0; i < kFamilies; ++i) {
    PlacementQuestion question;
    question.model = "m";
    question.fingerprint = "f-m";
    question.agents = kAgents;
    question.prompt_tokens = 300;
    question.prefix = static_cast<uint64_t>(i);
    waiting.push_back(
        fleet_->Place(question, [&](int group) { ++families[static_cast<size_t>(group)]; }));
  }
  const absl::Duration took = absl::Now() - begin;
  fmt::print("| placement | {} groups | {} agents | {:.0f} decisions/s | {:.1f} us each |\n",
             kGroups, kFamilies * kAgents, kFamilies / absl::ToDoubleSeconds(took),
             absl::ToDoubleMicroseconds(took) / kFamilies);

  EXPECT_EQ(std::accumulate(families.begin(), families.end(), 0), kFamilies);
  for (const GroupView& view : fleet_->View()) {
    EXPECT_GE(view.load.credits, 0);
    EXPECT_EQ(view.load.credits, kRoom - kAgents * families[static_cast<size_t>(view.number)]);
  }
}

}  // namespace
}  // namespace conclave::router
