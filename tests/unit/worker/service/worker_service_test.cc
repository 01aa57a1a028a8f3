#include "worker/service/worker_service.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"
#include "common/status_details.h"
#include "common/wire/grpc_status.h"
#include "common/wire/message_wire.h"
#include "common/wire/model_wire.h"
#include "common/wire/prompt_wire.h"
#include "tests/unit/worker/service/service_rig.h"

namespace conclave::worker {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

v1::RenderRequest Render(const std::string& text) {
  v1::RenderRequest request;
  ToWire({{Role::kUser, {{text}}}}, request.mutable_messages());
  request.set_thinking(v1::THINKING_ON);
  return request;
}

TEST(WorkerServiceTest, ItDescribesItsModelAndItself) {
  ServiceRig::Options options;
  options.service.epoch = 4;
  options.service.last_loss = "rank 1 was killed by signal 9";
  ServiceRig rig(options);
  grpc::ClientContext context;
  v1::DescribeResponse response;

  ASSERT_TRUE(rig.stub().Describe(&context, {}, &response).ok());

  EXPECT_EQ(response.epoch(), 4);
  EXPECT_EQ(response.last_loss(), "rank 1 was killed by signal 9");
  const auto model = FromWire(response.model());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->fingerprint, rig.model().fingerprint);
  EXPECT_EQ(model->fingerprint.size(), 64u);
  EXPECT_EQ(model->max_agents, 16);
  EXPECT_EQ(model->family, "llama");
  EXPECT_GT(model->vocabulary, 0);
  EXPECT_TRUE(model->profile.thinks);
}

TEST(WorkerServiceTest, WhatIsCountedIsWhatIsRendered) {
  ServiceRig rig;
  v1::RenderResponse rendered;
  v1::CountResponse counted;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(rig.stub().Render(&context, Render("How many?"), &rendered).ok());
  }
  v1::CountRequest count;
  *count.mutable_messages() = Render("How many?").messages();
  count.set_thinking(v1::THINKING_ON);
  grpc::ClientContext context;
  ASSERT_TRUE(rig.stub().Count(&context, count, &counted).ok());
  EXPECT_THAT(rendered.text(), HasSubstr("How many?"));
  EXPECT_EQ(counted.tokens(), rendered.tokens_size());
  EXPECT_GT(counted.tokens(), 3);
}

TEST(WorkerServiceTest, ACallersTextNeverBecomesAControlToken) {
  ServiceRig rig;
  const TokenId end = rig.text().end_tokens().front();
  const std::string content(rig.text().tokenizer().token_bytes(end));
  v1::RenderResponse plain, nasty;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(rig.stub().Render(&context, Render("x"), &plain).ok());
  }
  grpc::ClientContext context;
  ASSERT_TRUE(rig.stub().Render(&context, Render("x" + content), &nasty).ok());
  EXPECT_THAT(nasty.text(), HasSubstr(content));
  const auto count = [&](const v1::RenderResponse& response) {
    return std::count(response.tokens().begin(), response.tokens().end(), end);
  };
  EXPECT_EQ(count(nasty), count(plain));
}

TEST(WorkerServiceTest, ARenderingTellsWhoWroteWhatAndWhatEachTokenSays) {
  ServiceRig rig;
  const TokenId end = rig.text().end_tokens().front();
  const std::string content(rig.text().tokenizer().token_bytes(end));
  v1::RenderResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(rig.stub().Render(&context, Render("x" + content), &response).ok());

  const auto prompt = FromWire(response);

  ASSERT_TRUE(prompt.ok()) << prompt.status();
  std::string spelt, callers;
  for (const PromptToken& token : prompt->tokens) {
    spelt += token.text;
    EXPECT_TRUE(token.control || token.id != end);
  }
  EXPECT_EQ(spelt, prompt->text);
  size_t begin = 0;
  for (const PromptRun& run : prompt->runs) {
    if (run.by_caller) callers += prompt->text.substr(begin, run.end - begin);
    begin = run.end;
  }
  EXPECT_EQ(callers, "x" + content);
}

TEST(WorkerServiceTest, APromptThatNoSequenceHoldsIsNotRendered) {
  ServiceRig rig;
  v1::RenderResponse response;
  grpc::ClientContext context;

  const grpc::Status status =
      rig.stub().Render(&context, Render(std::string(100'000, 'x')), &response);

  EXPECT_EQ(status.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_THAT(status.error_message(), HasSubstr("the model has positions for"));
}

TEST(WorkerServiceTest, BadMessagesAreRefusedWithTheField) {
  ServiceRig rig;
  const auto refused = [&](const v1::RenderRequest& request) {
    grpc::ClientContext context;
    v1::RenderResponse response;
    const grpc::Status status = rig.stub().Render(&context, request, &response);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    return status.error_message();
  };
  EXPECT_THAT(refused({}), HasSubstr("messages has 0 entries"));
  v1::RenderRequest request = Render("x");
  request.set_thinking(static_cast<v1::Thinking>(9));
  EXPECT_THAT(refused(request), HasSubstr("thinking"));
  request = Render("x");
  request.mutable_messages(0)->clear_role();
  EXPECT_THAT(refused(request), HasSubstr("messages[0].role"));
}

// Asked again it would be too long again: nobody must take it for a want of room.
TEST(WorkerServiceTest, ATextThatIsTooLongToRenderIsTheCallersFault) {
  ServiceRig rig;
  grpc::ClientContext context;
  v1::RenderResponse response;
  const grpc::Status status =
      rig.stub().Render(&context, Render(std::string(5 << 20, 'x')), &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("limit"));
}

TEST(WorkerServiceTest, TheLoadIsToldAtOnceAndFollowsTheAgents) {
  ServiceRig rig({.service = {}, .max_slots = 16, .answer_tokens = 0, .hold = true});
  grpc::ClientContext context;
  const auto loads = rig.stub().WatchLoad(&context, {});
  v1::WatchLoadResponse load;
  ASSERT_TRUE(loads->Read(&load));
  EXPECT_TRUE(load.ready());
  EXPECT_EQ(load.credits(), 16);
  EXPECT_EQ(load.epoch(), 1);
  EXPECT_EQ(load.blocks_free(), load.blocks_total());

  RouterStream stream(rig);
  stream.Send(Opening());
  stream.Send(Recipes(5));
  rig.runner().ReleaseSteps(2);
  while (load.agents_running() != 5) ASSERT_TRUE(loads->Read(&load));
  EXPECT_EQ(load.credits(), 11);
}

TEST(WorkerServiceTest, ADrainLetsFamiliesEndAndTakesNoNewOnes) {
  ServiceRig rig({.service = {}, .max_slots = 16, .answer_tokens = 0, .hold = true});
  RouterStream stream(rig);
  stream.Send(Opening());
  stream.Send(Recipes(3));
  stream.HalfClose();
  ASSERT_TRUE(stream.NextOf<GangAccepted>());

  bool all_ended = false;
  std::thread drain([&] { all_ended = rig.service().Drain(absl::Seconds(60)); });
  grpc::ClientContext context;
  const auto loads = rig.stub().WatchLoad(&context, {});
  v1::WatchLoadResponse load;
  do {
    ASSERT_TRUE(loads->Read(&load));
  } while (load.ready());
  EXPECT_EQ(load.credits(), 0);
  RouterStream late(rig);
  late.Send(Opening());
  const grpc::Status status = late.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("draining"));
  EXPECT_TRUE(DetailsOf(FromGrpc(status)).retry_after.has_value());

  rig.runner().ReleaseAllSteps();
  EXPECT_TRUE(stream.Finish().ok());
  drain.join();
  EXPECT_TRUE(all_ended);
}

TEST(WorkerServiceTest, AfterTheDrainsTimeTheRestIsBroken) {
  ServiceRig rig({.service = {}, .max_slots = 16, .answer_tokens = 0, .hold = true});
  RouterStream stream(rig);
  stream.Send(Opening());
  stream.Send(Recipes(3));
  ASSERT_TRUE(stream.NextOf<GangAccepted>());
  EXPECT_FALSE(rig.service().Drain(absl::Milliseconds(10)));
  rig.runner().ReleaseAllSteps();
  EXPECT_EQ(stream.Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST(WorkerServiceTest, ALostGroupEndsEveryStreamWithTheReason) {
  ServiceRig rig({.service = {}, .max_slots = 16, .answer_tokens = 0, .hold = true});
  grpc::ClientContext context;
  const auto loads = rig.stub().WatchLoad(&context, {});
  RouterStream stream(rig);
  stream.Send(Opening());
  stream.Send(Recipes(3));
  ASSERT_TRUE(stream.NextOf<GangAccepted>());

  rig.runner().FailNextStep(DataLoss("ranks disagree on step 7"));
  rig.runner().ReleaseAllSteps();

  const grpc::Status status = stream.Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(status.error_message(), HasSubstr("the group is lost: ranks disagree on step 7"));
  EXPECT_FALSE(stream.totals);
  EXPECT_TRUE(rig.AwaitLost());
  v1::WatchLoadResponse load;
  while (loads->Read(&load)) {
  }
  EXPECT_EQ(loads->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

}  // namespace
}  // namespace conclave::worker
