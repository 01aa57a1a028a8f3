#include "common/address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"

namespace conclave {
namespace {

using testing::HasSubstr;

TEST(AddressTest, HostsAndPortsCanBeListenedOn) {
  for (const char* right : {"127.0.0.1:9100", "0.0.0.0:0", "[::1]:9100", "localhost:65535"}) {
    EXPECT_TRUE(CheckListenAddress(right).ok()) << right;
  }
}

TEST(AddressTest, WhatIsWrongIsNamedWithTheFormThatIsWanted) {
  const std::pair<const char*, const char*> table[] = {
      {"", "is not HOST:PORT, as 127.0.0.1:9100"},
      {"9100", "\"9100\" is not HOST:PORT"},
      {":9100", "names no host; 0.0.0.0 stands for all"},
      {"host:", "the port must be 0 to 65535"},
      {"host:65536", "the port must be 0 to 65535"},
      {"host:-1", "the port must be 0 to 65535"},
      {"host:9100x", "the port must be 0 to 65535"},
      {"::1:9100", "needs brackets, as [::1]:9100"},
      {"http://host:9100", "more than one colon"},
      {"a b:9100", "is not HOST:PORT"}};
  for (const auto& [wrong, words] : table) {
    EXPECT_THAT(MessageOf(CheckListenAddress(wrong)), HasSubstr(words)) << wrong;
  }
}

TEST(AddressTest, APeerHasAPortOrAFormOfGrpcs) {
  for (const char* right : {"gpu1:9101", "dns:///groups.default:9101", "unix:/run/x.sock",
                            "unix:router.socket", "dns:9101", "ipv4:10.0.0.1:9101"}) {
    EXPECT_TRUE(CheckPeerAddress(right).ok()) << right;
  }
  EXPECT_THAT(MessageOf(CheckPeerAddress("gpu1:0")), HasSubstr("the port must be 1 to 65535"));
  EXPECT_FALSE(CheckPeerAddress("gpu1").ok());
}

}  // namespace
}  // namespace conclave
