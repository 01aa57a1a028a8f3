#include "worker/launch/rendezvous.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

namespace conclave::worker {
namespace {

using ::testing::HasSubstr;
using Variables = std::map<std::string, std::string>;

absl::StatusOr<Rendezvous> Read(const Variables& variables) {
  return ReadRendezvous([&](const char* name) -> const char* {
    const auto it = variables.find(name);
    return it == variables.end() ? nullptr : it->second.c_str();
  });
}

const Variables kTorchrun = {{"MASTER_ADDR", "10.0.0.1"},
                             {"MASTER_PORT", "29500"},
                             {"RANK", "5"},
                             {"WORLD_SIZE", "8"},
                             {"LOCAL_RANK", "1"}};
const Variables kSet = {{"LWS_LEADER_ADDRESS", "muse-0.muse.default"},
                        {"LWS_GROUP_SIZE", "2"},
                        {"LWS_WORKER_INDEX", "1"}};

std::string Complaint(Variables variables, const std::string& name, const std::string& value) {
  variables[name] = value;
  const auto place = Read(variables);
  return place.ok() ? "none" : std::string(place.status().message());
}

TEST(RendezvousTest, WithoutVariablesAProcessIsAlone) {
  const auto place = Read({{"HOME", "/root"}});

  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_EQ(place->kind, Rendezvous::Kind::kAlone);
  EXPECT_EQ(place->size, 1);
}

TEST(RendezvousTest, TorchrunNamesARank) {
  const auto place = Read(kTorchrun);

  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_EQ(place->kind, Rendezvous::Kind::kTorchrun);
  EXPECT_EQ(place->address, "10.0.0.1");
  EXPECT_EQ(place->port, 29'500);
  EXPECT_EQ(place->size, 8);
  EXPECT_EQ(place->index, 5);
  EXPECT_EQ(place->local_index, 1);
}

TEST(RendezvousTest, ALeaderWorkerSetNamesAHost) {
  const auto place = Read(kSet);

  ASSERT_TRUE(place.ok()) << place.status();
  EXPECT_EQ(place->kind, Rendezvous::Kind::kLeaderWorkerSet);
  EXPECT_EQ(place->address, "muse-0.muse.default");
  EXPECT_EQ(place->port, 0);
  EXPECT_EQ(place->size, 2);
  EXPECT_EQ(place->index, 1);
}

TEST(RendezvousTest, AComplaintNamesTheVariable) {
  EXPECT_THAT(Complaint(kTorchrun, "RANK", "8"), HasSubstr("RANK=8 is not a number from 0 to 7"));
  EXPECT_THAT(Complaint(kTorchrun, "WORLD_SIZE", "two"), HasSubstr("WORLD_SIZE=two"));
  EXPECT_THAT(Complaint(kTorchrun, "WORLD_SIZE", "65"), HasSubstr("from 1 to 64"));
  EXPECT_THAT(Complaint(kTorchrun, "MASTER_PORT", "0"), HasSubstr("MASTER_PORT=0"));
  EXPECT_THAT(Complaint(kTorchrun, "LOCAL_RANK", "-1"), HasSubstr("LOCAL_RANK=-1"));
  EXPECT_THAT(Complaint(kTorchrun, "MASTER_ADDR", ""), HasSubstr("MASTER_ADDR is empty"));
  EXPECT_THAT(Complaint(kSet, "LWS_WORKER_INDEX", "2"), HasSubstr("LWS_WORKER_INDEX=2"));
  EXPECT_THAT(Complaint(kSet, "LWS_GROUP_SIZE", ""), HasSubstr("LWS_GROUP_SIZE= is not"));
}

TEST(RendezvousTest, VariablesThatBelongTogetherAreAllThereOrNone) {
  for (const Variables& all : {kTorchrun, kSet}) {
    for (const auto& [name, value] : all) {
      if (name == "LOCAL_RANK") continue;
      Variables some = all;
      some.erase(name);
      const auto place = Read(some);
      ASSERT_FALSE(place.ok()) << name;
      EXPECT_THAT(std::string(place.status().message()), HasSubstr(name + " is not"));
    }
  }
}

TEST(RendezvousTest, BothKindsAtOnceAreRefused) {
  Variables both = kTorchrun;
  both.insert(kSet.begin(), kSet.end());

  EXPECT_THAT(std::string(Read(both).status().message()), HasSubstr("both set"));
}

}  // namespace
}  // namespace conclave::worker
