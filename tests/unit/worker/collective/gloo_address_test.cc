#include "worker/collective/gloo_address.h"

#include <gtest/gtest.h>

#include <string>

#include "common/status.h"
#include "worker/collective/gloo_collective.h"

namespace conclave::worker {
namespace {

constexpr char kMixed[] = "gloo/1 7 1 3 10.0.0.1:4000 - [fd00::1]:65535";

std::string Refusal(std::string_view text) {
  const auto address = ParseGlooAddress(text);
  EXPECT_EQ(address.status().code(), absl::StatusCode::kInvalidArgument) << text;
  return std::string(MessageOf(address.status()));
}

TEST(GlooAddressTest, ItsTextSurvivesARoundTrip) {
  const auto address = ParseGlooAddress(kMixed);

  ASSERT_TRUE(address.ok()) << address.status();
  EXPECT_EQ(address->epoch, 7);
  EXPECT_EQ(address->rank, 1);
  EXPECT_EQ(address->size, 3);
  EXPECT_EQ(TextOf(address->doors[0]), "10.0.0.1:4000");
  EXPECT_EQ(address->doors[1].ss_family, AF_UNSPEC);
  EXPECT_EQ(TextOf(address->doors[2]), "[fd00::1]:65535");
  EXPECT_EQ(TextOf(*address), kMixed);
}

TEST(GlooAddressTest, TheLargestGroupsFits) {
  std::string text = "gloo/1 -9223372036854775808 63 64";
  for (int r = 0; r < kMaxGlooRanks - 1; ++r) {
    text += " [2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535";
  }
  text += " -";

  EXPECT_TRUE(ParseGlooAddress(text).ok());
}

TEST(GlooAddressTest, WhatIsNoAddressIsRefusedWithTheReason) {
  for (const std::string& text :
       {std::string(), std::string("\0", 1), std::string("hello"),
        std::string("gloo/2 7 0 2 - 1.2.3.4:5"), std::string("gloo/1 7 0"),
        std::string("gloo/1 x 0 2 - 1.2.3.4:5"),
        std::string("gloo/1 99999999999999999999 0 2 - 1.2.3.4:5"), std::string(4000, ' ')}) {
    EXPECT_EQ(Refusal(text), "it does not begin with 'gloo/1 EPOCH RANK SIZE'");
  }
  EXPECT_EQ(Refusal(std::string(kMaxGlooAddressBytes + 1, 'x')),
            "it has 4097 bytes; the limit is 4096");
  EXPECT_EQ(Refusal("gloo/1 7 0 1 -"), "it says 1 ranks and has ports for 1; groups have 2 to 64");
  EXPECT_EQ(Refusal("gloo/1 7 0 2000000000 -"),
            "it says 2000000000 ranks and has ports for 1; groups have 2 to 64");
  EXPECT_EQ(Refusal("gloo/1 7 0 3 - 1.2.3.4:5"),
            "it says 3 ranks and has ports for 2; groups have 2 to 64");
  EXPECT_EQ(Refusal("gloo/1 7 2 2 - 1.2.3.4:5"), "it says rank 2 of 2");
  EXPECT_EQ(Refusal("gloo/1 7 -1 2 - 1.2.3.4:5"), "it says rank -1 of 2");
  EXPECT_EQ(Refusal("gloo/1 7 0 2 1.2.3.4:5 -"), "it has a port for its own rank");
}

TEST(GlooAddressTest, WhatIsNoPortIsRefusedWithTheReason) {
  for (const char* door : {"", "-", "1.2.3.4", "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:65536",
                           "1.2.3.4:-1", "1.2.3.4:99999999999"}) {
    EXPECT_EQ(Refusal(std::string("gloo/1 7 0 2 - ") + door),
              "its port for rank 1: a port is given as ADDRESS:PORT");
  }
  for (const char* door : {":5", "localhost:5", "1.2.3:5", "1.2.3.256:5", "fd00::1:5",
                           "[fd00::1%lo]:5", "[1.2.3.4]:5", "0.0.0.0:5", "[::]:5"}) {
    EXPECT_EQ(Refusal(std::string("gloo/1 7 0 2 - ") + door),
              "its port for rank 1: no IP address before the port");
  }
}

TEST(GlooAddressTest, NumbersHaveOneForm) {
  const std::string form = "gloo/1 7 0 2 - [fd00::1]:5";
  for (const std::string& text :
       {std::string("gloo/1 +7 0 2 - [fd00::1]:5"), std::string("gloo/1 7 00 2 - [fd00::1]:5"),
        std::string("gloo/1 7 0 2\t - [fd00::1]:5"), std::string("gloo/1 7 0 2 - [fd00::1]:05"),
        std::string("gloo/1 7 0 2 - [FD00::1]:5"),
        std::string("gloo/1 7 0 2 - [fd00::1\0]:5", 27)}) {
    EXPECT_EQ(Refusal(text), "it should be '" + form + "'");
  }
}

TEST(GlooAddressTest, AChangedByteIsRefusedOrMeansWhatItSays) {
  for (size_t at = 0; at < sizeof(kMixed) - 1; ++at) {
    for (int byte = 0; byte < 256; ++byte) {
      std::string text = kMixed;
      text[at] = static_cast<char>(byte);
      const auto address = ParseGlooAddress(text);
      if (address.ok()) {
        EXPECT_EQ(TextOf(*address), text);
      }
    }
  }
}

TEST(GlooAddressTest, AHostIsAnAddressOfThisMachine) {
  const auto loopback = LocalAddressOf("127.0.0.1");
  ASSERT_TRUE(loopback.ok()) << loopback.status();
  EXPECT_EQ(TextOf(*loopback), "127.0.0.1:0");
  EXPECT_TRUE(LocalAddressOf("localhost").ok());

  for (const char* host : {"", "0.0.0.0", "::", "192.0.2.1"}) {  // The last: for books only.
    EXPECT_EQ(LocalAddressOf(host).status().code(), absl::StatusCode::kInvalidArgument) << host;
  }
}

}  // namespace
}  // namespace conclave::worker
