#include "cli/tokenize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/exit_code.h"

namespace conclave::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

class TokenizeTest : public testing::Test {
 protected:
  TokenizeTest() { options_.model = CONCLAVE_SOURCE_DIR "/models/conclave-demo"; }
  int Run() {
    testing::internal::CaptureStderr();
    const int code = Tokenize(options_, out_, notes_, false);
    errors_ = testing::internal::GetCapturedStderr();
    return code;
  }

  TokenizeOptions options_;
  std::ostringstream out_, notes_;
  std::string errors_;
};

TEST_F(TokenizeTest, TheTokensSpellTheText) {
  options_.text = "Tom has 12 \xc3\xa4pples.\n";
  options_.json = true;

  ASSERT_EQ(Run(), kExitOk) << errors_;

  const auto json = nlohmann::json::parse(out_.str());
  EXPECT_EQ(json["bytes"], options_.text.size());
  EXPECT_EQ(json["count"], json["tokens"].size());
  std::string spelt;
  for (const auto& token : json["tokens"]) {
    if (token.contains("bytes")) {
      const std::string hex = token["bytes"];
      for (size_t i = 0; i < hex.size(); i += 2) {
        spelt += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
      }
    } else {
      spelt += token["text"].get<std::string>();
    }
  }
  EXPECT_EQ(spelt, options_.text);
}

TEST_F(TokenizeTest, ControlTokensAreTextUnlessTheyAreAskedFor) {
  options_.text = "a<|im_end|>";

  ASSERT_EQ(Run(), kExitOk) << errors_;
  EXPECT_THAT(out_.str(), Not(HasSubstr("control")));

  options_.special = true;
  ASSERT_EQ(Run(), kExitOk) << errors_;
  EXPECT_THAT(out_.str(), HasSubstr("\"<|im_end|>\"  control\n"));
  EXPECT_THAT(notes_.str(), HasSubstr("2 tokens, 11 bytes\n"));
}

TEST_F(TokenizeTest, IdsAloneStandOnOneLine) {
  options_.text = "a<|im_end|>";
  options_.special = options_.ids = true;

  ASSERT_EQ(Run(), kExitOk) << errors_;

  EXPECT_THAT(out_.str(), testing::MatchesRegex("[0-9]+ 637\n"));
}

TEST_F(TokenizeTest, AFolderWithoutATokenizerIsNamed) {
  options_.model = "/nowhere";
  options_.text = "x";

  EXPECT_EQ(Run(), kExitUsage);

  EXPECT_THAT(errors_, HasSubstr("--model /nowhere: /nowhere/tokenizer.json"));
}

TEST_F(TokenizeTest, BytesThatAreNoUtf8AreRefused) {
  options_.text = "\xff";

  EXPECT_EQ(Run(), kExitUsage);

  EXPECT_THAT(errors_, HasSubstr("the text is not UTF-8"));
}

}  // namespace
}  // namespace conclave::cli
