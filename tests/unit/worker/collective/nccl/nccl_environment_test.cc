#include "worker/collective/nccl/nccl_environment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <netinet/in.h>

#include <cstdlib>
#include <map>
#include <string>

namespace conclave::worker {
namespace {

using ::testing::HasSubstr;

// Without the variables that it is about; they are as they were afterwards.
class NcclEnvironmentTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : kNames) {
      if (const char* value = std::getenv(name); value != nullptr) before_[name] = value;
      unsetenv(name);
    }
  }
  void TearDown() override {
    for (const char* name : kNames) unsetenv(name);
    for (const auto& [name, value] : before_) setenv(name.c_str(), value.c_str(), 1);
  }

  static std::string Variable(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  }

  NcclOptions options_ = {.rank = 3, .size = 8};

 private:
  static constexpr const char* kNames[] = {"NCCL_SOCKET_IFNAME", "NCCL_SOCKET_FAMILY",
                                           "NCCL_RAS_ENABLE",    "NCCL_HOSTID",
                                           "NCCL_NET",           "NCCL_IB_DISABLE"};
  std::map<std::string, std::string> before_;
};

TEST_F(NcclEnvironmentTest, RanksOfOneHostMeetOnItsLoopback) {
  ASSERT_TRUE(PrepareEnvironment(options_).ok());

  EXPECT_EQ(Variable("NCCL_SOCKET_IFNAME"), "=lo");
  EXPECT_EQ(Variable("NCCL_HOSTID"), "");
  EXPECT_EQ(Variable("NCCL_NET"), "");
}

TEST_F(NcclEnvironmentTest, RanksOfSeveralHostsMeetOnTheInterfaceOfTheirAddress) {
  options_.address = "127.0.0.1";

  ASSERT_TRUE(PrepareEnvironment(options_).ok());

  EXPECT_EQ(Variable("NCCL_SOCKET_IFNAME"), "=lo");
  EXPECT_EQ(Variable("NCCL_SOCKET_FAMILY"), "AF_INET");
}

// Of an interface that is not what ranks of one host meet on.
TEST_F(NcclEnvironmentTest, AnAddressOfANetworkIsMetOnItsInterface) {
  ifaddrs* list = nullptr;
  ASSERT_EQ(getifaddrs(&list), 0);
  std::string name;
  for (const ifaddrs* each = list; each != nullptr && name.empty(); each = each->ifa_next) {
    char text[NI_MAXHOST];
    if (each->ifa_addr == nullptr || each->ifa_addr->sa_family != AF_INET ||
        std::string(each->ifa_name) == "lo" ||
        getnameinfo(each->ifa_addr, sizeof(sockaddr_in), text, sizeof(text), nullptr, 0,
                    NI_NUMERICHOST) != 0) {
      continue;
    }
    name = each->ifa_name;
    options_.address = text;
  }
  freeifaddrs(list);
  if (name.empty()) GTEST_SKIP() << "this machine has no network";

  ASSERT_TRUE(PrepareEnvironment(options_).ok());

  EXPECT_EQ(Variable("NCCL_SOCKET_IFNAME"), "=" + name);
}

TEST_F(NcclEnvironmentTest, AnAddressOfAnotherHostIsRefused) {
  options_.address = "192.0.2.1";

  const absl::Status status = PrepareEnvironment(options_);

  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(status.message(), HasSubstr("192.0.2.1"));
  EXPECT_THAT(status.message(), HasSubstr("group.hosts.address"));
}

TEST_F(NcclEnvironmentTest, RanksThatShareADeviceSayThatTheirHostsDiffer) {
  options_.device_is_shared = true;

  ASSERT_TRUE(PrepareEnvironment(options_).ok());

  EXPECT_EQ(Variable("NCCL_HOSTID"), "conclave-rank-3");
  EXPECT_EQ(Variable("NCCL_NET"), "Socket");
}

TEST_F(NcclEnvironmentTest, WhatTheOperatorHasSetStays) {
  setenv("NCCL_SOCKET_IFNAME", "eth7", 1);
  options_.address = "192.0.2.1";  // Not looked for, then.

  ASSERT_TRUE(PrepareEnvironment(options_).ok());

  EXPECT_EQ(Variable("NCCL_SOCKET_IFNAME"), "eth7");
}

}  // namespace
}  // namespace conclave::worker
