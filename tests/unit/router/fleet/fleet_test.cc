#include "router/fleet/fleet.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "common/status_details.h"
#include "tests/unit/router/fleet/fleet_rig.h"

namespace conclave::router {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class FleetTest : public FleetRig {};

TEST_F(FleetTest, BeforeAnyGroupWasMetNothingIsServedYet) {
  Make(1);

  const absl::Status status = fleet_->FindModel("m").status();

  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("g:0: not reached yet"));
  EXPECT_TRUE(DetailsOf(status).retry_after.has_value());
}

TEST_F(FleetTest, AModelIsFoundByItsNameOrAsTheOnlyOne) {
  Make(2);
  Describe(0, "m");
  Describe(1, "m");
  EXPECT_EQ(fleet_->FindModel("m")->fingerprint, "f-m");
  EXPECT_EQ(fleet_->FindModel("")->fingerprint, "f-m");
  EXPECT_EQ(fleet_->FindModel("n").status().code(), absl::StatusCode::kNotFound);

  Describe(1, "n");
  EXPECT_EQ(fleet_->FindModel("n")->fingerprint, "f-n");
  const absl::Status ambiguous = fleet_->FindModel("").status();
  EXPECT_EQ(ambiguous.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(MessageOf(ambiguous)), HasSubstr("both m and n"));
}

TEST_F(FleetTest, AReplayFindsItsFingerprintOrIsAborted) {
  Make(2);
  Describe(0, "m");
  EXPECT_EQ(fleet_->FindModel("m", "old").status().code(), absl::StatusCode::kUnavailable);
  Describe(1, "m");
  EXPECT_TRUE(fleet_->FindModel("m", "f-m").ok());
  const absl::Status status = fleet_->FindModel("m", "old").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(std::string(MessageOf(status)), "the replay differs: no group has fingerprint old");
}

TEST_F(FleetTest, AGroupWithoutRoomWasNotLost) {
  Make(1);
  EXPECT_EQ(fleet_->LossWords(0, ResourceExhausted("256 families")),
            "group g:0 has no room: 256 families");
  EXPECT_THAT(metrics_.Text(), HasSubstr("conclave_group_losses_total{group=\"g:0\"} 0"));
}

TEST_F(FleetTest, AGroupThatIsGoneStillSpeaksForItsModel) {
  Make(1);
  Describe(0, "m");
  events_[0]->OnGone(Unavailable("connection refused"));

  EXPECT_TRUE(fleet_->FindModel("m").ok());
  const absl::Status why = fleet_->WhyNot({.model = "m", .fingerprint = "", .agents = 1});
  EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(MessageOf(why)), HasSubstr("group g:0: connection refused"));
}

TEST_F(FleetTest, AFamilyWaitsUntilAGroupHasRoomAndThenTakesItsCredits) {
  Make(1);
  std::vector<int> places;
  const auto first = Place(4, places);
  Describe(0, "m");
  EXPECT_TRUE(places.empty());  // Described is not ready.
  Load(0, 3);
  EXPECT_TRUE(places.empty());
  Load(0, 5);
  EXPECT_THAT(places, ElementsAre(0));

  EXPECT_EQ(fleet_->View()[0].load.credits, 1);
  EXPECT_EQ(fleet_->View()[0].load.agents_running, 4);
  const auto second = Place(2, places);
  EXPECT_EQ(places.size(), 1u);
  const absl::Status why = fleet_->WhyNot({.model = "m", .fingerprint = "", .agents = 2});
  EXPECT_EQ(why.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(MessageOf(why)), HasSubstr("group g:0: has room for 1 agents of 2"));
  Load(0, 2);
  EXPECT_EQ(places.size(), 2u);
}

TEST_F(FleetTest, AFamilyIsToldWhenItsGroupsPlacesChangeWhileItLasts) {
  Make(2);
  Describe(0, "m");
  std::vector<int> told;
  auto run = fleet_->Open(0, {}, std::make_shared<Ends>(),
                          [&told](const GroupLoad& load) { told.push_back(load.credits); });
  auto deaf = fleet_->Open(0, {}, std::make_shared<Ends>());
  Load(0, 5);
  Load(0, 5);  // No news.
  Load(1, 7);  // Another group.
  Load(0, 4);
  EXPECT_THAT(told, ElementsAre(5, 4));
  run.reset();
  Load(0, 3);
  EXPECT_THAT(told, ElementsAre(5, 4));
}

TEST_F(FleetTest, WhoWaitsLongestComesFirst) {
  Make(1);
  std::vector<int> early, late;
  const auto first = Place(4, early);
  const auto second = Place(4, late);
  Describe(0, "m");
  Load(0, 4);
  EXPECT_EQ(early.size(), 1u);
  EXPECT_TRUE(late.empty());
}

TEST_F(FleetTest, WhoGivesUpIsNotPlacedAnyMore) {
  Make(1);
  std::vector<int> places;
  auto waiting = Place(1, places);
  EXPECT_THAT(metrics_.Text(), HasSubstr("conclave_families_waiting 1"));
  waiting.reset();
  EXPECT_THAT(metrics_.Text(), HasSubstr("conclave_families_waiting 0"));
  Describe(0, "m");
  Load(0, 8);
  EXPECT_TRUE(places.empty());
  EXPECT_EQ(fleet_->View()[0].load.credits, 8);
}

TEST_F(FleetTest, AGroupOfAnotherFingerprintIsNamedAsSuch) {
  Make(1);
  Describe(0, "m");
  Load(0, 8);
  const absl::Status why = fleet_->WhyNot({.model = "m", .fingerprint = "old", .agents = 1});
  EXPECT_EQ(why.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(MessageOf(why)), HasSubstr("group g:0: has another fingerprint"));
}

TEST_F(FleetTest, LossesAreCountedAndReturnsToldInWords) {
  Make(1);
  Describe(0, "m");
  EXPECT_EQ(fleet_->ReturnWords(0), "group g:0 serves");

  EXPECT_EQ(fleet_->LossWords(0, Unavailable("rank 1 was killed by signal 9")),
            "group g:0 was lost: rank 1 was killed by signal 9");
  EXPECT_THAT(metrics_.Text(), HasSubstr("conclave_group_losses_total{group=\"g:0\"} 1"));

  Describe(0, "m", "rank 1 was killed by signal 9", 2);
  EXPECT_EQ(fleet_->ReturnWords(0),
            "group g:0 serves as epoch 2 (it was lost before: rank 1 was killed by signal 9)");
}

TEST_F(FleetTest, OfSeveralFingerprintsTheOneThatMostReadyGroupsHaveIsServed) {
  Make(3);
  Describe(0, "m", "", 1, "new");
  Describe(1, "m", "", 1, "old");
  Describe(2, "m", "", 1, "old");
  for (int i = 0; i < 3; ++i) Load(i, 8);
  EXPECT_EQ(fleet_->FindModel("m")->fingerprint, "old");
  Load(2, 8, false);
  EXPECT_EQ(fleet_->FindModel("m")->fingerprint, "new");  // As many: the lesser one.
  events_[0]->OnGone(Unavailable("gone"));
  EXPECT_EQ(fleet_->FindModel("m")->fingerprint, "old");
  events_[1]->OnGone(Unavailable("gone"));
  EXPECT_EQ(fleet_->FindModel("m", "old")->fingerprint, "old");
}

TEST_F(FleetTest, WhatWasSentToAGroupCountsAsItsQueueUntilItReports) {
  Make(2);
  for (int i = 0; i < 2; ++i) Describe(i, "m");
  for (int i = 0; i < 2; ++i) Load(i, 64);
  std::vector<int> places;
  std::vector<std::unique_ptr<Fleet::Waiting>> waiting;
  PlacementQuestion question;
  question.model = "m";
  question.prompt_tokens = 100;
  question.prefix = 7;
  for (int i = 0; i < 3; ++i) {
    waiting.push_back(fleet_->Place(question, [&](int group) { places.push_back(group); }));
  }
  // Two prefills are worth waiting for one, and no more.
  EXPECT_THAT(places, ElementsAre(places[0], places[0], 1 - places[0]));
  EXPECT_EQ(fleet_->View(places[0]).load.queued_prompt_tokens, 200);
  Load(places[0], 64);
  EXPECT_EQ(fleet_->View(places[0]).load.queued_prompt_tokens, 0);
}

TEST_F(FleetTest, AGroupThatDrawsFamiliesAndLosesThemIsLeftAloneForLongerEachTime) {
  Make(2);
  for (int i = 0; i < 2; ++i) Describe(i, "m");
  for (int i = 0; i < 2; ++i) Load(i, 64);
  const auto ask = [&] {
    std::vector<int> places;
    const auto waiting = Place(1, places);
    return places.at(0);
  };
  const int broken = ask();
  for (const int milliseconds : {500, 1000, 2000, 4000, 8000, 16000, 30000, 30000}) {
    Load(0, 64);
    Load(1, 64);
    ASSERT_EQ(ask(), broken) << milliseconds;  // The prefix is its own.
    fleet_->LossWords(broken, Unavailable("it broke"));
    fleet_->LossWords(broken, Unavailable("it broke"));  // Of the same death.
    EXPECT_EQ(ask(), 1 - broken);
    clock_.Advance(absl::Milliseconds(milliseconds - 1));
    EXPECT_EQ(ask(), 1 - broken);
    clock_.Advance(absl::Milliseconds(1));
  }
  EXPECT_THAT(metrics_.Text(),
              HasSubstr(fmt::format("conclave_group_rests_total{{group=\"g:{}\"}} 8", broken)));

  // A family that ends well makes it as new.
  const auto ends = std::make_shared<Ends>();
  const auto run = fleet_->Open(broken, {}, ends);
  runs_[static_cast<size_t>(broken)]->OnFamilyEnd({});
  EXPECT_TRUE(ends->ended);
  fleet_->LossWords(broken, Unavailable("it broke"));
  clock_.Advance(absl::Milliseconds(500));
  Load(0, 64);
  Load(1, 64);
  EXPECT_EQ(ask(), broken);
}

TEST_F(FleetTest, LossesThatARequestCausedItselfLeaveTheGroupAwake) {
  Make(2);
  for (int i = 0; i < 2; ++i) Describe(i, "m");
  for (int i = 0; i < 2; ++i) Load(i, 64);
  for (int i = 0; i < 2; ++i) {
    fleet_->LossWords(i, InvalidArgument("no such template"));
    fleet_->LossWords(i, ResourceExhausted("full"));
    EXPECT_EQ(fleet_->View(i).rests_until, absl::InfinitePast());
  }
}

TEST_F(FleetTest, TheOnlyGroupIsAskedThoughItRests) {
  Make(2);
  Describe(0, "m");
  Describe(1, "m");
  Load(0, 8);
  Load(1, 8);
  fleet_->LossWords(0, Unavailable("it broke"));
  Load(1, 0);
  std::vector<int> places;
  const auto waiting = Place(1, places);
  EXPECT_TRUE(places.empty());  // The other one will have room.
  events_[1]->OnGone(Unavailable("gone too"));
  EXPECT_THAT(places, ElementsAre(0));
}

}  // namespace
}  // namespace conclave::router
