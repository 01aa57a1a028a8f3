#include "cli/error_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "common/status_details.h"

namespace conclave::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr char kRouter[] = "127.0.0.1:9100";

TEST(ErrorTextTest, NamesTheRouterTheCodeAndWhatToDo) {
  EXPECT_EQ(ErrorText(kRouter, NotFound("model \"x\" is not served")),
            "conclave: 127.0.0.1:9100: NOT_FOUND: model \"x\" is not served\n"
            "  `conclave models` lists what is served\n");
}

TEST(ErrorTextTest, SaysWhenToComeBackWhereTheServerDoes) {
  const absl::Status status = WithRetryAfter(ResourceExhausted("full"), absl::Milliseconds(1500));

  EXPECT_THAT(ErrorText(kRouter, status), HasSubstr("try again in 1.5 s"));
}

TEST(ErrorTextTest, ListsTheFieldsThatTheMessageDoesNotName) {
  StatusDetails details;
  details.fields = {{"budget.deadline", "must be positive"}, {"seed", "is there twice"}};
  const absl::Status status = WithDetails(InvalidArgument("seed is there twice"), details);

  EXPECT_THAT(ErrorText(kRouter, status), HasSubstr("  budget.deadline: must be positive\n"));
  EXPECT_THAT(ErrorText(kRouter, status), Not(HasSubstr("  seed: is there twice")));
}

TEST(ErrorTextTest, EveryCodeThatARequestMayEndWithHasAdvice) {
  using absl::StatusCode;
  for (const StatusCode code :
       {StatusCode::kInvalidArgument, StatusCode::kUnimplemented, StatusCode::kNotFound,
        StatusCode::kResourceExhausted, StatusCode::kUnavailable, StatusCode::kDeadlineExceeded,
        StatusCode::kAborted, StatusCode::kOutOfRange, StatusCode::kUnauthenticated,
        StatusCode::kPermissionDenied}) {
    EXPECT_THAT(ErrorText(kRouter, MakeStatus(code, "x")), HasSubstr("\n  ")) << code;
  }
}

TEST(ErrorTextTest, AServersMessageCannotSteerTheTerminal) {
  EXPECT_THAT(ErrorText(kRouter, Internal("\x1b[2J\nx")), HasSubstr("INTERNAL: ?[2J x\n"));
}

}  // namespace
}  // namespace conclave::cli
