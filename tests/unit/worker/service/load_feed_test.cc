#include "worker/service/load_feed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "common/status.h"

namespace conclave::worker {
namespace {

using ::testing::ElementsAre;

const absl::Time kStart = absl::FromUnixSeconds(1000);

GroupLoad Load(int credits) {
  GroupLoad load;
  load.credits = credits;
  return load;
}

// A router's end of the stream, on which writes end when the test says so.
struct Router {
  std::vector<int> told;
  std::optional<absl::Status> finished;
  std::shared_ptr<LoadWatch> watch = std::make_shared<LoadWatch>(
      LoadWatch::Wire{.write = [this](const GroupLoad& load) { told.push_back(load.credits); },
                      .finish = [this](const absl::Status& why) { finished = why; }},
      absl::Seconds(1));
};

TEST(LoadFeedTest, ARouterIsToldAtOnceWhatWasPublishedLast) {
  LoadFeed feed(absl::Seconds(1));
  Router router;
  feed.Publish(Load(3), kStart);
  ASSERT_TRUE(feed.Add(router.watch).ok());
  EXPECT_THAT(router.told, ElementsAre(3));
}

TEST(LoadFeedTest, WithoutAChangeItIsToldOnlyAfterTheHeartbeat) {
  LoadFeed feed(absl::Seconds(1));
  Router router;
  ASSERT_TRUE(feed.Add(router.watch).ok());
  feed.Publish(Load(3), kStart);
  router.watch->OnWritten(true);
  feed.Publish(Load(3), kStart + absl::Milliseconds(999));
  EXPECT_THAT(router.told, ElementsAre(3));
  feed.Publish(Load(3), kStart + absl::Seconds(1));
  EXPECT_THAT(router.told, ElementsAre(3, 3));
  router.watch->OnWritten(true);
  feed.Publish(Load(4), kStart + absl::Milliseconds(1001));
  EXPECT_THAT(router.told, ElementsAre(3, 3, 4));
}

TEST(LoadFeedTest, WhileAWriteIsInProgressOnlyTheLatestLoadWaits) {
  LoadFeed feed(absl::Seconds(1));
  Router router;
  ASSERT_TRUE(feed.Add(router.watch).ok());
  for (int credits = 0; credits < 100; ++credits) feed.Publish(Load(credits), kStart);
  EXPECT_THAT(router.told, ElementsAre(0));
  router.watch->OnWritten(true);
  EXPECT_THAT(router.told, ElementsAre(0, 99));
  router.watch->OnWritten(true);
  EXPECT_THAT(router.told, ElementsAre(0, 99));
}

TEST(LoadFeedTest, TheCallIsFinishedOnceAndOnlyBetweenWrites) {
  LoadFeed feed(absl::Seconds(1));
  Router router;
  ASSERT_TRUE(feed.Add(router.watch).ok());
  feed.Publish(Load(1), kStart);
  feed.EndAll(Unavailable("over"));
  EXPECT_FALSE(router.finished.has_value());
  router.watch->OnWritten(true);
  ASSERT_TRUE(router.finished.has_value());
  EXPECT_EQ(*router.finished, Unavailable("over"));
  router.finished.reset();
  router.watch->End(Cancelled("again"));
  EXPECT_FALSE(router.finished.has_value());

  Router late;
  EXPECT_EQ(feed.Add(late.watch), Unavailable("over"));
}

TEST(LoadFeedTest, AStreamThatBrokeIsForgotten) {
  LoadFeed feed(absl::Seconds(1));
  Router router;
  ASSERT_TRUE(feed.Add(router.watch).ok());
  feed.Publish(Load(1), kStart);
  router.watch->OnWritten(false);
  EXPECT_EQ(router.finished->code(), absl::StatusCode::kCancelled);
  feed.Publish(Load(2), kStart);
  EXPECT_THAT(router.told, ElementsAre(1));
}

TEST(LoadFeedTest, TooManyRoutersAreRefusedUntilOneLeaves) {
  LoadFeed feed(absl::Seconds(1));
  std::vector<Router> routers(LoadFeed::kMostWatches);
  for (Router& router : routers) ASSERT_TRUE(feed.Add(router.watch).ok());
  Router one_more;
  EXPECT_EQ(feed.Add(one_more.watch).code(), absl::StatusCode::kResourceExhausted);
  routers[5].watch->End(Cancelled("gone"));
  EXPECT_TRUE(feed.Add(one_more.watch).ok());
}

}  // namespace
}  // namespace conclave::worker
