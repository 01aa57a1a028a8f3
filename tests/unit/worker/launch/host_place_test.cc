#include "worker/launch/host_place.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

namespace conclave::worker {
namespace {

using ::testing::HasSubstr;
using Variables = std::map<std::string, std::string>;

absl::StatusOr<GroupPlace> Find(const HostsOptions& options, int tp, const Variables& variables) {
  return FindPlace(options, tp, [&](const char* name) -> const char* {
    const auto it = variables.find(name);
    return it == variables.end() ? nullptr : it->second.c_str();
  });
}

std::string WhyNot(const HostsOptions& options, int tp, const Variables& variables = {}) {
  const auto place = Find(options, tp, variables);
  return place.ok() ? "" : std::string(place.status().message());
}

const HostsOptions kSecondOfTwo = {.count = 2, .index = 1, .leader = "10.0.0.1", .port = 9000};
const HostsOptions kEnvironment = {.from_environment = true, .port = 9000};
const Variables kSet = {{"LWS_LEADER_ADDRESS", "muse-0.muse.default"},
                        {"LWS_GROUP_SIZE", "2"},
                        {"LWS_WORKER_INDEX", "1"}};
const Variables kTorchrun = {{"MASTER_ADDR", "node-0"},
                             {"MASTER_PORT", "29500"},
                             {"RANK", "1"},
                             {"WORLD_SIZE", "2"},
                             {"LOCAL_RANK", "0"}};

TEST(HostPlaceTest, OneHostNeedsNoLeader) {
  const auto place = Find({}, 4, kSet);

  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_EQ(place->hosts, 1);
  EXPECT_EQ(place->ranks_of_each(4), 4);
}

TEST(HostPlaceTest, RanksAreDealtOutInOrder) {
  const auto place = Find(kSecondOfTwo, 4, {});

  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_EQ(place->first_rank(4), 2);
  EXPECT_EQ(place->ranks_of_each(4), 2);
  EXPECT_EQ(place->coordinator(), "10.0.0.1:9000");
}

TEST(HostPlaceTest, ALeaderWorkerSetSaysWhoAndThePortIsTheConfigs) {
  const auto place = Find(kEnvironment, 2, kSet);

  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_EQ(place->hosts, 2);
  EXPECT_EQ(place->host, 1);
  EXPECT_EQ(place->coordinator(), "muse-0.muse.default:9000");
}

TEST(HostPlaceTest, TorchrunsPortIsTakenUnlessItsOwnStoreHasIt) {
  Variables variables = kTorchrun;
  EXPECT_EQ(Find(kEnvironment, 2, variables)->coordinator(), "node-0:29500");

  variables["TORCHELASTIC_USE_AGENT_STORE"] = "True";
  EXPECT_EQ(Find(kEnvironment, 2, variables)->coordinator(), "node-0:9000");
}

TEST(HostPlaceTest, TorchrunStartsOneProcessOnEachHost) {
  Variables variables = kTorchrun;
  variables["LOCAL_RANK"] = "1";

  EXPECT_THAT(WhyNot(kEnvironment, 2, variables), HasSubstr("LOCAL_RANK is 1: start one process"));
}

TEST(HostPlaceTest, AComplaintNamesTheKey) {
  EXPECT_THAT(WhyNot(kEnvironment, 2), HasSubstr("group.hosts.place is environment"));
  EXPECT_THAT(WhyNot({.count = 2, .index = 2, .leader = "a"}, 2),
              HasSubstr("group.hosts.index is 2, and group.hosts.count 2"));
  EXPECT_THAT(WhyNot({.count = 2}, 2), HasSubstr("group.hosts.leader must name host 0"));
  EXPECT_THAT(WhyNot(kSecondOfTwo, 3), HasSubstr("group.tensor_parallel is 3"));
  EXPECT_THAT(WhyNot(kEnvironment, 3, kSet), HasSubstr("does not divide among 2 hosts"));
}

TEST(HostPlaceTest, AnAddressWithColonsGetsBrackets) {
  EXPECT_EQ(JoinHostPort("::1", 9), "[::1]:9");
  EXPECT_EQ(JoinHostPort("[::1]", 9), "[::1]:9");
  EXPECT_EQ(JoinHostPort("a.b", 9), "a.b:9");
}

TEST(HostPlaceTest, AHostIsReachedWhereItReachesHost0) {
  GroupPlace place;
  place.hosts = 2, place.port = 9000;
  place.leader = "127.0.0.1";

  EXPECT_EQ(*OwnAddress(place), "127.0.0.1");

  place.address = "127.0.0.7";
  EXPECT_EQ(*OwnAddress(place), "127.0.0.7");

  place.address = "";
  place.leader = "no host of this name";
  EXPECT_EQ(OwnAddress(place).status().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace conclave::worker
