#include "cli/render.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/exit_code.h"
#include "tests/unit/cli/fake_router.h"

namespace conclave::cli {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr char kDemo[] = CONCLAVE_SOURCE_DIR "/models/conclave-demo";

class RenderTest : public testing::Test {
 protected:
  RenderTest() {
    options_.question = "What is 2 + 2?";
    options_.profile = CONCLAVE_SOURCE_DIR "/configs/prompts/default.yaml";
  }
  int Run() {
    testing::internal::CaptureStderr();
    const int code = Render(options_, out_, notes_, false);
    errors_ = testing::internal::GetCapturedStderr();
    return code;
  }

  RenderOptions options_;
  std::ostringstream out_, notes_;
  std::string errors_;
};

TEST_F(RenderTest, AFolderIsRenderedWithoutARouter) {
  options_.model = kDemo;
  options_.router = "127.0.0.1:1";

  ASSERT_EQ(Run(), kExitOk) << errors_;

  EXPECT_EQ(out_.str(), "<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_THAT(notes_.str(), HasSubstr("14 of them the caller's"));
}

TEST_F(RenderTest, TheModeReachesTheTemplate) {
  options_.model = kDemo;
  options_.mode = "instant";

  ASSERT_EQ(Run(), kExitOk) << errors_;

  EXPECT_THAT(out_.str(), HasSubstr("Reasoning effort: low"));
}

TEST_F(RenderTest, ACallersControlTokenIsShownAsText) {
  options_.model = kDemo;
  options_.question = "a<|im_end|>";
  options_.json = true;

  ASSERT_EQ(Run(), kExitOk) << errors_;

  const auto json = nlohmann::json::parse(out_.str());
  int ends = 0;
  std::string spelt;
  for (const auto& token : json["tokens"]) {
    ends += token["text"] == "<|im_end|>" ? 1 : 0;
    spelt += token["text"].get<std::string>();
  }
  EXPECT_EQ(ends, 1) << "the template's own";
  EXPECT_EQ(spelt, json["text"]);
}

TEST_F(RenderTest, ARouterIsAskedForAServedModel) {
  v1::RenderPromptRequest asked;
  RouterScript script;
  script.render = [&asked](const v1::RenderPromptRequest& request,
                           v1::RenderPromptResponse& response) {
    asked = request;
    response.set_model("demo");
    response.set_text("<x>hi");
    response.add_runs()->set_end(3);
    response.add_runs()->set_end(5);
    response.mutable_runs(1)->set_author(v1::AUTHOR_CALLER);
    response.add_tokens(1);
    response.add_pieces()->set_text("<x>");
    response.add_tokens(2);
    response.add_pieces()->set_text("hi");
    return grpc::Status::OK;
  };
  FakeRouter router(std::move(script));
  const std::string key = testing::TempDir() + "/render.key";
  std::ofstream(key) << "sesame\n";
  options_.router = router.address() + ",127.0.0.1:1";
  options_.api_key_file = key;
  options_.model = "demo";
  options_.mode = "thinking";
  options_.time_of_day = 86'400;
  options_.ids = true;

  ASSERT_EQ(Run(), kExitOk) << errors_;

  EXPECT_EQ(out_.str(), "1 2\n");
  EXPECT_THAT(notes_.str(), StartsWith("demo: 2 tokens"));
  EXPECT_EQ(asked.model(), "demo");
  EXPECT_EQ(asked.mode(), v1::MODE_THINKING);
  EXPECT_EQ(asked.time_of_day(), 86'400);
  EXPECT_EQ(asked.messages(0).parts(0).text(), "What is 2 + 2?");
  EXPECT_EQ(router.authorization(), "Bearer sesame");
}

TEST_F(RenderTest, ARouterThatContradictsItselfIsNotBelieved) {
  RouterScript script;
  script.render = [](const v1::RenderPromptRequest&, v1::RenderPromptResponse& response) {
    response.set_text("abc");
    response.add_runs()->set_end(9);
    return grpc::Status::OK;
  };
  FakeRouter router(std::move(script));
  options_.router = router.address();

  EXPECT_EQ(Run(), kExitFailed);

  EXPECT_THAT(errors_, HasSubstr("a run of the prompt ends at byte 9 of 3"));
}

TEST_F(RenderTest, AFolderThatIsNoModelIsTheCommandLinesFault) {
  options_.model = CONCLAVE_SOURCE_DIR "/configs";

  EXPECT_EQ(Run(), kExitUsage);

  EXPECT_THAT(errors_, HasSubstr("tokenizer.json"));
}

TEST_F(RenderTest, AnOlderRouterIsToldApart) {
  RouterScript script;
  script.render = [](const v1::RenderPromptRequest&, v1::RenderPromptResponse&) {
    return grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "");
  };
  FakeRouter router(std::move(script));
  options_.router = router.address();

  EXPECT_EQ(Run(), kExitFailed);

  EXPECT_THAT(errors_, HasSubstr("ask a newer router"));
}

}  // namespace
}  // namespace conclave::cli
