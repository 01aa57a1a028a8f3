#include "router/admission/keys.h"

#include <gtest/gtest.h>

namespace conclave::router {
namespace {

TenantOptions Tenant(const std::string& name, const std::string& key) {
  return {.name = name, .keys = {DigestOf(key)}};
}

TEST(KeysTest, DigestIsSha256InHex) {
  EXPECT_EQ(DigestOf("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(KeysTest, WithoutTenantsEverybodyIsAnonymous) {
  const auto keys = Keys::Make({});

  EXPECT_EQ(*keys->Authenticate(""), kAnonymous);
  EXPECT_TRUE(keys->open());
}

TEST(KeysTest, AKeyNamesItsTenant) {
  const auto keys = Keys::Make({Tenant("red", "r-key"), Tenant("blue", "b-key")});

  EXPECT_EQ(*keys->Authenticate("Bearer b-key"), "blue");
  EXPECT_EQ(*keys->Authenticate("Bearer r-key"), "red");
}

TEST(KeysTest, AnythingElseIsUnauthenticated) {
  const auto keys = Keys::Make({Tenant("red", "r-key")});

  for (const std::string& header :
       {std::string(), std::string("r-key"), std::string("Bearer "), std::string("Bearer b-key"),
        std::string("Basic r-key"), "Bearer " + DigestOf("r-key"),
        "Bearer " + std::string(5000, 'x')}) {
    EXPECT_EQ(keys->Authenticate(header).status().code(), absl::StatusCode::kUnauthenticated)
        << header;
  }
}

TEST(KeysTest, AConfigThatHoldsTheKeyItselfIsRefused) {
  EXPECT_EQ(Keys::Make({{.name = "red", .keys = {"r-key"}}}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(KeysTest, AKeyOfTwoTenantsIsRefused) {
  EXPECT_EQ(Keys::Make({Tenant("red", "same"), Tenant("blue", "same")}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST(KeysTest, ATenantWithoutKeysIsRefused) {
  EXPECT_EQ(Keys::Make({{.name = "red", .keys = {}}}).status().code(),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace conclave::router
