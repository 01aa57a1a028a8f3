#include "router/fleet/fleet.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "common/status_details.h"

namespace conclave::router {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

// A group that says what the test makes it say.
class SpokenClient : public WorkerClient {
 public:
  explicit SpokenClient(GroupEvents** events) : events_(events) {}
  std::unique_ptr<FamilyRun> Open(FamilyOpening, std::shared_ptr<FamilyEvents>) override {
    return nullptr;
  }
  std::unique_ptr<GroupWatch> Watch(GroupEvents& events) override {
    *events_ = &events;
    return std::make_unique<GroupWatch>();
  }
  void Count(CountQuestion, std::function<void(absl::StatusOr<int>)>) override {}

 private:
  GroupEvents** const events_;
};

class FleetTest : public ::testing::Test {
 protected:
  void Make(int groups) {
    events_.resize(static_cast<size_t>(groups));
    std::vector<FleetMember> members;
    for (int i = 0; i < groups; ++i) {
      members.push_back({.address = fmt::format("g:{}", i),
                         .client = std::make_unique<SpokenClient>(&events_[i])});
    }
    fleet_ = std::make_unique<Fleet>(std::move(members), Logger(), metrics_);
  }

  void Describe(int group, const std::string& model, const std::string& last_loss = "",
                int64_t epoch = 1) {
    GroupDescription description;
    description.model.name = model;
    description.model.fingerprint = "f-" + model;
    description.epoch = epoch;
    description.last_loss = last_loss;
    events_[static_cast<size_t>(group)]->OnDescribed(std::move(description));
  }

  void Load(int group, int credits, bool ready = true) {
    GroupLoad load;
    load.credits = credits;
    load.ready = ready;
    events_[static_cast<size_t>(group)]->OnLoad(load);
  }

  std::unique_ptr<Fleet::Waiting> Place(int agents, std::vector<int>& places) {
    PlacementQuestion question;
    question.model = "m";
    question.agents = agents;
    return fleet_->Place(question, [&places](int group) { places.push_back(group); });
  }

  Metrics metrics_;
  std::vector<GroupEvents*> events_;
  std::unique_ptr<Fleet> fleet_;
};

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
  const auto second = Place(2, places);
  EXPECT_EQ(places.size(), 1u);
  const absl::Status why = fleet_->WhyNot({.model = "m", .fingerprint = "", .agents = 2});
  EXPECT_EQ(why.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(MessageOf(why)), HasSubstr("group g:0: has room for 1 agents of 2"));
  Load(0, 2);
  EXPECT_EQ(places.size(), 2u);
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

}  // namespace
}  // namespace conclave::router
