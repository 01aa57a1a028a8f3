#include "router/api/prompt_calls.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/wire/prompt_wire.h"
#include "tests/unit/router/api/api_rig.h"

namespace conclave::router {
namespace {

using testing::HasSubstr;

TEST(PromptCallsTest, TokensAreCountedByAGroup) {
  ApiRig rig;
  v1::CountTokensRequest request;
  *request.mutable_messages() = Ask(v1::MODE_INSTANT).messages();
  v1::CountTokensResponse response;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(rig.stub().CountTokens(&context, request, &response).ok());
    EXPECT_EQ(response.tokens(), 27);
  }
  grpc::ClientContext context;
  request.clear_messages();
  const grpc::Status status = rig.stub().CountTokens(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("messages has 0 entries; 1 to 1024"));
}

TEST(PromptCallsTest, CountingTokensTakesATicketToo) {
  RigOptions options;
  options.admission.max_requests = 1;
  ApiRig rig(options);
  rig.worker().HoldAfter(2);
  grpc::ClientContext context, counting;
  const auto running = rig.stub().Generate(&context, Ask(v1::MODE_INSTANT));
  ASSERT_TRUE(rig.worker().AwaitTokens(2));
  v1::CountTokensRequest request;
  *request.mutable_messages() = Ask(v1::MODE_INSTANT).messages();
  v1::CountTokensResponse response;

  const grpc::Status status = rig.stub().CountTokens(&counting, request, &response);

  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  rig.worker().Release();
  EXPECT_TRUE(ReadOut(*running).status.ok());
}

v1::RenderPromptRequest Render(v1::Mode mode) {
  v1::RenderPromptRequest request;
  *request.mutable_messages() = Ask(mode).messages();
  request.set_mode(mode);
  return request;
}

TEST(PromptCallsTest, APromptIsRenderedByAGroup) {
  ApiRig rig;
  v1::RenderPromptRequest request = Render(v1::MODE_THINKING);
  request.set_time_of_day(86'400);
  v1::RenderPromptResponse response;
  grpc::ClientContext context;

  const grpc::Status status = rig.stub().RenderPrompt(&context, request, &response);

  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.model(), "demo");
  const auto prompt = FromWire(response);
  ASSERT_TRUE(prompt.ok()) << prompt.status();
  ASSERT_EQ(prompt->tokens.size(), 3u);
  EXPECT_TRUE(prompt->tokens[0].control);
  EXPECT_TRUE(prompt->runs[1].by_caller);
  EXPECT_EQ(prompt->tokens[1].text, request.messages(0).parts(0).text());
  EXPECT_EQ(prompt->tokens[2].text, "<think at 86400>");
}

TEST(PromptCallsTest, TheModeIsThatOfARequest) {
  ApiRig rig;
  v1::RenderPromptResponse response;
  grpc::ClientContext context;

  ASSERT_TRUE(rig.stub().RenderPrompt(&context, Render(v1::MODE_INSTANT), &response).ok());

  EXPECT_THAT(response.text(), HasSubstr("<answer at "));
}

TEST(PromptCallsTest, WhatCannotBeRenderedIsRefusedWithTheField) {
  ApiRig rig;
  const auto refused = [&rig](const v1::RenderPromptRequest& request) {
    v1::RenderPromptResponse response;
    grpc::ClientContext context;
    return rig.stub().RenderPrompt(&context, request, &response);
  };
  EXPECT_THAT(refused({}).error_message(), HasSubstr("messages has 0 entries; 1 to 1024"));
  EXPECT_THAT(refused(Render(static_cast<v1::Mode>(9))).error_message(),
              HasSubstr("mode has no value 9"));
  v1::RenderPromptRequest other = Render(v1::MODE_THINKING);
  other.set_model("other");
  EXPECT_EQ(refused(other).error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST(PromptCallsTest, RenderingTakesATicketToo) {
  RigOptions options;
  options.admission.max_requests = 1;
  ApiRig rig(options);
  rig.worker().HoldAfter(2);
  grpc::ClientContext context, rendering;
  const auto running = rig.stub().Generate(&context, Ask(v1::MODE_INSTANT));
  ASSERT_TRUE(rig.worker().AwaitTokens(2));
  v1::RenderPromptResponse response;

  const grpc::Status status =
      rig.stub().RenderPrompt(&rendering, Render(v1::MODE_INSTANT), &response);

  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  rig.worker().Release();
  EXPECT_TRUE(ReadOut(*running).status.ok());
}

}  // namespace
}  // namespace conclave::router
