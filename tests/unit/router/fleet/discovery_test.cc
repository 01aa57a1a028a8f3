#include "router/fleet/discovery.h"

#include <absl/synchronization/notification.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>

#include "common/status.h"

namespace conclave::router {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// A name server that answers what it is told, the last answer for ever.
class FakeResolver : public Resolver {
 public:
  using Answer = absl::StatusOr<std::vector<std::string>>;
  explicit FakeResolver(std::deque<Answer> answers) : answers_(std::move(answers)) {}

  Answer Resolve(const std::string& name) override {
    EXPECT_EQ(name, "groups:9101");
    absl::MutexLock lock(&mutex_);
    ++asked_;
    Answer answer = answers_.front();
    if (answers_.size() > 1) answers_.pop_front();
    return answer;
  }
  // Waits for it.
  void AwaitAsked(int times) {
    absl::MutexLock lock(&mutex_);
    const auto enough = [this, times] {
      mutex_.AssertHeld();
      return asked_ >= times;
    };
    EXPECT_TRUE(mutex_.AwaitWithTimeout(absl::Condition(&enough), absl::Seconds(30)));
  }

 private:
  absl::Mutex mutex_;
  std::deque<Answer> answers_ ABSL_GUARDED_BY(mutex_);
  int asked_ ABSL_GUARDED_BY(mutex_) = 0;
};

class IdleClient : public WorkerClient {
 public:
  std::unique_ptr<FamilyRun> Open(FamilyOpening, std::shared_ptr<FamilyEvents>) override {
    return nullptr;
  }
  std::unique_ptr<GroupWatch> Watch(GroupEvents&) override {
    return std::make_unique<GroupWatch>();
  }
  void Count(PromptQuestion, std::function<void(absl::StatusOr<int>)>) override {}
  void Render(PromptQuestion, std::function<void(absl::StatusOr<Prompt>)>) override {}
};

class DiscoveryTest : public ::testing::Test {
 protected:
  void Make(std::deque<FakeResolver::Answer> answers, int max_groups = 8,
            std::vector<std::string> addresses = {}) {
    resolver_ = std::make_unique<FakeResolver>(std::move(answers));
    discovery_ = std::make_unique<Discovery>(
        DiscoveryOptions{.addresses = std::move(addresses),
                         .dns = "groups:9101",
                         .every = absl::Milliseconds(1),
                         .max_groups = max_groups},
        *resolver_, *fleet_, [](const std::string&) { return std::make_unique<IdleClient>(); },
        Logger({}, [this](std::string_view line) { log_.emplace_back(line); }), metrics_);
  }

  std::vector<std::string> Members() const {
    std::vector<std::string> members;
    for (const GroupView& view : fleet_->View()) members.push_back(view.address);
    return members;
  }

  FakeClock clock_;
  Metrics metrics_;
  std::unique_ptr<Fleet> fleet_ =
      std::make_unique<Fleet>(std::vector<FleetMember>(), Logger(), metrics_, clock_);
  std::vector<std::string> log_;
  std::unique_ptr<FakeResolver> resolver_;
  std::unique_ptr<Discovery> discovery_;
};

using Addresses = std::vector<std::string>;

TEST_F(DiscoveryTest, MembersFollowTheName) {
  Make({Addresses{"a:1"}, Addresses{"a:1", "b:1", "c:1"}, Addresses{"c:1"}});
  discovery_->Refresh();
  EXPECT_THAT(Members(), ElementsAre("a:1"));
  discovery_->Refresh();
  EXPECT_THAT(Members(), ElementsAre("a:1", "b:1", "c:1"));
  discovery_->Refresh();
  EXPECT_THAT(Members(), ElementsAre("c:1"));
}

TEST_F(DiscoveryTest, AListedGroupStaysWhateverTheNameSays) {
  Make({Addresses{"a:1", "s:1"}, Addresses{"b:1"}}, 8, {"s:1"});
  discovery_->Refresh();
  EXPECT_THAT(Members(), ElementsAre("a:1", "s:1"));
  discovery_->Refresh();
  EXPECT_THAT(Members(), ElementsAre("s:1", "b:1"));
}

TEST_F(DiscoveryTest, WhileTheNameDoesNotResolveTheLastMembersStay) {
  Make({Addresses{"a:1", "b:1"}, Unavailable("groups: no answer"), Unavailable("groups: no answer"),
        Unavailable("groups: not known"), Addresses{"b:1"}});
  discovery_->Refresh();
  for (int i = 0; i < 3; ++i) {
    discovery_->Refresh();
    EXPECT_THAT(Members(), ElementsAre("a:1", "b:1"));
  }
  EXPECT_THAT(metrics_.Text(), HasSubstr("conclave_dns_resolutions_total{result=\"failed\"} 3"));
  // Said once for each reason.
  ASSERT_EQ(log_.size(), 2u);
  EXPECT_THAT(log_[0], HasSubstr("workers.dns does not resolve; its last members are kept"));
  EXPECT_THAT(log_[0], HasSubstr("groups: no answer"));
  EXPECT_THAT(log_[1], HasSubstr("groups: not known"));
  discovery_->Refresh();
  EXPECT_THAT(Members(), ElementsAre("b:1"));
  EXPECT_THAT(log_.back(), HasSubstr("workers.dns resolves again"));
}

TEST_F(DiscoveryTest, BeyondTheLimitThoseThatAreMembersStay) {
  Make({Addresses{"b:1", "c:1", "d:1"}, Addresses{"a:1", "b:1", "c:1", "d:1"},
        Addresses{"a:1", "c:1", "d:1"}},
       2);
  discovery_->Refresh();
  EXPECT_THAT(Members(), ElementsAre("b:1", "c:1"));
  EXPECT_THAT(metrics_.Text(), HasSubstr("conclave_groups_left_out 1"));
  discovery_->Refresh();
  EXPECT_THAT(Members(), ElementsAre("b:1", "c:1"));
  EXPECT_THAT(metrics_.Text(), HasSubstr("conclave_groups_left_out 2"));
  discovery_->Refresh();
  EXPECT_THAT(Members(), ElementsAre("c:1", "a:1"));
  EXPECT_THAT(log_[0], HasSubstr("more addresses than workers.max_groups"));
}

TEST_F(DiscoveryTest, TheListCountsBeforeTheNameResolvesAndTheNameIsAskedAgainAndAgain) {
  Make({Unavailable("not yet"), Addresses{"a:1"}}, 8, {"s:1"});
  discovery_->Start();
  EXPECT_EQ(Members().front(), "s:1");
  resolver_->AwaitAsked(4);
  discovery_.reset();
  EXPECT_THAT(Members(), ElementsAre("s:1", "a:1"));
}

TEST(SystemResolverTest, ANumberIsItselfAndAHostWithBothKindsGivesIpv4) {
  SystemResolver resolver;
  EXPECT_THAT(*resolver.Resolve("127.0.0.1:9101"), ElementsAre("127.0.0.1:9101"));
  EXPECT_THAT(*resolver.Resolve("[::1]:9101"), ElementsAre("[::1]:9101"));
  EXPECT_THAT(*resolver.Resolve("localhost:9101"), ElementsAre("127.0.0.1:9101"));
}

TEST(SystemResolverTest, ANameThatDoesNotResolveSaysSo) {
  const absl::Status status = SystemResolver().Resolve("no..such:9101").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("no..such: "));
}

}  // namespace
}  // namespace conclave::router
