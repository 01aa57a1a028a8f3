#include "common/plain_text.h"

#include <gtest/gtest.h>

namespace conclave {
namespace {

TEST(PlainTextTest, WritesOutWhatSteersATerminal) {
  EXPECT_EQ(PlainText("\x1b]0;owned\x07 \x1b[2Jx\r\x7f\xc2\x9b"),
            "\\x1b]0;owned\\x07 \\x1b[2Jx\\x0d\\x7f\\x9b");
  EXPECT_EQ(PlainText(std::string_view("a\0b", 3)), "a\\x00b");
}

TEST(PlainTextTest, KeepsEverythingElse) {
  EXPECT_EQ(PlainText("a\n\tb \xc3\xa9 \xc2\xa0 \xe4\xb8\xad \xc2"),
            "a\n\tb \xc3\xa9 \xc2\xa0 \xe4\xb8\xad \xc2");
}

}  // namespace
}  // namespace conclave
