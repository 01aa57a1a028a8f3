#include "common/log.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "common/status.h"

namespace conclave {
namespace {

class LogTest : public testing::Test {
 protected:
  Logger Make(LogFormat format, LogLevel level = LogLevel::kInfo) {
    return Logger({.level = level, .format = format},
                  [this](std::string_view line) { lines_.emplace_back(line); });
  }

  // The line without its time.
  std::string Rest(size_t line = 0) const {
    return lines_.at(line).substr(lines_[line].find(' ') + 1);
  }

  std::vector<std::string> lines_;
};

TEST_F(LogTest, ATextLineHoldsLevelMessageAndFields) {
  Make(LogFormat::kText).Info("request ended", {{"agents", 8}, {"code", "OK"}, {"cut", true}});

  EXPECT_EQ(Rest(), "info request ended agents=8 code=OK cut=true");
}

TEST_F(LogTest, AJsonLineIsOneObject) {
  Make(LogFormat::kJson)
      .Warning("group \"gone\"",
               {{"group", "127.0.0.1:7"}, {"epoch", 3}, {"wait", absl::Seconds(2)}});

  const auto object = nlohmann::json::parse(lines_.at(0));
  EXPECT_EQ(object["level"], "warning");
  EXPECT_EQ(object["message"], "group \"gone\"");
  EXPECT_EQ(object["group"], "127.0.0.1:7");
  EXPECT_EQ(object["epoch"], 3);
  EXPECT_EQ(object["wait"], "2s");
}

TEST_F(LogTest, LinesBelowTheLevelAreNotWritten) {
  const Logger logger = Make(LogFormat::kText, LogLevel::kWarning);

  logger.Debug("a");
  logger.Info("b");
  logger.Warning("c");
  logger.Error("d");

  ASSERT_EQ(lines_.size(), 2u);
  EXPECT_EQ(Rest(1), "error d");
}

TEST_F(LogTest, FieldsOfALoggerStandOnEachOfItsLines) {
  const Logger logger = Make(LogFormat::kText).With({{"request", "r1"}}).With({{"tenant", "red"}});

  logger.Info("a");
  logger.Info("b", {{"n", 1}});

  EXPECT_EQ(Rest(0), "info a request=r1 tenant=red");
  EXPECT_EQ(Rest(1), "info b request=r1 tenant=red n=1");
}

TEST_F(LogTest, NobodyForgesALineOrAField) {
  Make(LogFormat::kText).Info("a\nb", {{"id", "x\ny level=error"}, {"empty", ""}, {"k", "a=b"}});

  EXPECT_EQ(Rest(), R"(info "a\nb" id="x\ny level=error" empty="" k="a=b")");
}

TEST_F(LogTest, ControlCharactersAreEscapedInJson) {
  Make(LogFormat::kJson).Info("a", {{"id", std::string("\x1b[2J\x00z", 6)}});

  EXPECT_EQ(nlohmann::json::parse(lines_.at(0))["id"], std::string("\x1b[2J\x00z", 6));
  EXPECT_EQ(lines_[0].find('\x1b'), std::string::npos);
}

TEST_F(LogTest, AStatusIsWrittenWithItsCode) {
  Make(LogFormat::kText).Error("failed", {{"status", NotFound("no model x")}});

  EXPECT_EQ(Rest(), "error failed status=\"NOT_FOUND: no model x\"");
}

TEST_F(LogTest, ALoggerWithoutAPlaceWritesNothing) {
  Logger().With({{"a", 1}}).Error("lost");

  EXPECT_TRUE(lines_.empty());
}

TEST_F(LogTest, StandardErrorTakesALine) {
  testing::internal::CaptureStderr();

  Logger(LogOptions{}).Info("hello", {{"a", 1}});

  EXPECT_NE(testing::internal::GetCapturedStderr().find(" info hello a=1\n"), std::string::npos);
}

}  // namespace
}  // namespace conclave
