#include "common/status_details.h"

#include <gtest/gtest.h>

#include "common/status.h"

namespace conclave {
namespace {

TEST(StatusDetailsTest, DetailsTravelInsideAStatus) {
  StatusDetails details;
  details.fields = {{"messages[0]", "is 5:empty"}, {"seed", ""}};
  details.quotas = {{"tenant:red", "8 requests"}};
  details.retry_after = absl::Milliseconds(1500);
  details.reason = "QUOTA";
  details.metadata = {{"limit", "8"}};
  details.request_id = "r1";

  EXPECT_EQ(DetailsOf(WithDetails(NotFound("x"), details)), details);
}

TEST(StatusDetailsTest, AStatusWithoutDetailsHasEmptyOnes) {
  EXPECT_EQ(DetailsOf(NotFound("x")), StatusDetails{});
  EXPECT_EQ(DetailsOf(WithDetails(absl::OkStatus(), {.reason = "A"})), StatusDetails{});
}

TEST(StatusDetailsTest, AddingOneKeepsTheOthers) {
  const absl::Status status =
      WithRequestId(WithRetryAfter(Unavailable("x"), absl::Seconds(2)), "r1");

  EXPECT_EQ(DetailsOf(status).retry_after, absl::Seconds(2));
  EXPECT_EQ(DetailsOf(status).request_id, "r1");
  EXPECT_EQ(MessageOf(status), "x");
}

TEST(StatusDetailsTest, DamagedPayloadsCountAsNone) {
  absl::Status status = NotFound("x");
  for (const char* bytes :
       {"f", "f3", "f3:ab", "f99999999999999999999:a1:b", "r1:x0:", "z1:a1:b"}) {
    status.SetPayload("conclave/details", absl::Cord(bytes));
    EXPECT_TRUE(DetailsOf(status).fields.empty()) << bytes;
  }
}

}  // namespace
}  // namespace conclave
