#include "cli/screen.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "cli/terminal.h"

namespace conclave::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

// A terminal with two screens, of which the second has a size. Knows the few sequences that a frame
// sends; one column a byte.
class FakeTerminal {
 public:
  FakeTerminal(size_t columns, size_t rows) { Resize(columns, rows); }
  // As terminals do it: what lies outside is lost, the cursor stays inside.
  void Resize(size_t columns, size_t rows) {
    columns_ = columns;
    second_.resize(rows);
    for (std::string& row : second_) row.resize(std::min(row.size(), columns));
    row_ = std::min(row_, rows - 1);
    column_ = std::min(column_, columns - 1);
  }
  void Feed(const std::string& bytes) {
    for (size_t i = 0; i < bytes.size(); ++i) {
      if (bytes[i] == '\x1b') {
        i = Sequence(bytes, i + 2);
      } else if (!on_second_) {
        first_ += bytes[i];
      } else if (bytes[i] == '\r') {
        column_ = 0;
      } else if (bytes[i] == '\n') {
        NextRow();
      } else {
        Put(bytes[i]);
      }
    }
  }
  const std::string& first() const { return first_; }
  bool on_second() const { return on_second_; }
  bool wraps() const { return wraps_; }
  bool cursor_shown() const { return cursor_shown_; }
  // The second screen's rows down to the last one that is not empty.
  std::vector<std::string> second() const {
    std::vector<std::string> rows = second_;
    while (!rows.empty() && rows.back().empty()) rows.pop_back();
    return rows;
  }

 private:
  void NextRow() {
    if (++row_ < second_.size()) return;
    second_.erase(second_.begin());
    second_.emplace_back();
    --row_;
  }
  void Put(char c) {
    if (column_ == columns_) {
      if (!wraps_) --column_;
      if (wraps_) NextRow(), column_ = 0;
    }
    std::string& row = second_[row_];
    row.resize(std::max(row.size(), column_ + 1), ' ');
    row[column_++] = c;
  }
  size_t Sequence(const std::string& bytes, size_t at) {
    const size_t end = bytes.find_first_not_of("0123456789?", at);
    const std::string number = bytes.substr(at, end - at);
    const bool on = bytes[end] == 'h';
    if (number == "?1049") on_second_ = on;
    if (number == "?1049" && on) row_ = column_ = 0, second_.assign(second_.size(), "");
    if (number == "?7") wraps_ = on;
    if (number == "?25") cursor_shown_ = on;
    if (bytes[end] == 'H') row_ = column_ = 0;
    if (bytes[end] == 'K' || bytes[end] == 'J') {
      second_[row_].resize(std::min(second_[row_].size(), column_));
    }
    if (bytes[end] == 'J') {
      std::fill(second_.begin() + static_cast<long>(row_) + 1, second_.end(), "");
    }
    return end;
  }

  std::string first_;
  std::vector<std::string> second_;
  size_t columns_ = 0, row_ = 0, column_ = 0;
  bool on_second_ = false, wraps_ = true, cursor_shown_ = true;
};

std::vector<Line> Block(const std::vector<std::string>& texts) {
  std::vector<Line> lines;
  for (const std::string& text : texts) lines.push_back({{text, Tone::kGood}});
  return lines;
}

std::string Plain(const std::vector<std::string>& texts) {
  return Frame(Block(texts), /*color=*/false);
}

TEST(ScreenTest, AFrameReplacesTheOneBeforeAndLeavesTheFirstScreenAlone) {
  FakeTerminal terminal(80, 24);
  terminal.Feed("$ conclave ask\r\n");
  terminal.Feed(kEnterScreen + Plain({"title", "agent one", "agent two"}));
  terminal.Feed(Plain({"title", "one"}));
  EXPECT_THAT(terminal.second(), ElementsAre("title", "one"));
  EXPECT_FALSE(terminal.cursor_shown());

  terminal.Feed(kLeaveScreen + Kept(Block({"done"}), /*color=*/false));
  EXPECT_EQ(terminal.first(), "$ conclave ask\r\ndone\r\n");
  EXPECT_FALSE(terminal.on_second());
  EXPECT_TRUE(terminal.wraps());
  EXPECT_TRUE(terminal.cursor_shown());
}

TEST(ScreenTest, AFrameThatWasDrawnForAnotherSizeLeavesNothingBehind) {
  const std::vector<std::string> wide = {"a title of some width", "agent one thinks", "vote", "57"};
  FakeTerminal terminal(80, 4);
  terminal.Feed(kEnterScreen + Plain(wide));
  terminal.Resize(10, 3);
  terminal.Feed(Plain(wide));  // The program does not know yet.
  terminal.Feed(Plain({"a title", "agent", "vote"}));
  EXPECT_THAT(terminal.second(), ElementsAre("a title", "agent", "vote"));

  terminal.Resize(80, 24);
  terminal.Feed(Plain({"title", "one"}));
  EXPECT_THAT(terminal.second(), ElementsAre("title", "one"));
}

TEST(ScreenTest, AFullScreenDoesNotScroll) {
  FakeTerminal terminal(8, 3);
  terminal.Feed(kEnterScreen + Plain({"first", "second", "1234567"}));
  EXPECT_THAT(terminal.second(), ElementsAre("first", "second", "1234567"));
}

TEST(ScreenTest, AnEchoOfCtrlCDisappearsWithTheNextFrame) {
  FakeTerminal terminal(80, 24);
  terminal.Feed(kEnterScreen + Plain({"title", "agent"}));
  terminal.Feed("^C");
  terminal.Feed(Plain({"title", "agent"}));
  EXPECT_THAT(terminal.second(), ElementsAre("title", "agent"));
}

TEST(ScreenTest, NothingIsColouredUnlessColoursAreWanted) {
  EXPECT_THAT(Kept(Block({"x"}), /*color=*/false), Not(HasSubstr("\x1b")));
  EXPECT_EQ(Kept(Block({"x"}), /*color=*/true), "\x1b[32mx\x1b[0m\r\n");
}

TEST(ScreenTest, NoTextOfALineReachesTheTerminalAsAControlSequence) {
  const std::vector<Line> lines = Block({"\x1b[2J\r\n\xc2\x9b\u202e"});
  EXPECT_EQ(Kept(lines, /*color=*/false), "?[2J? ??\r\n");
  EXPECT_THAT(Frame(lines, /*color=*/false), HasSubstr("?[2J? ??"));
}

TEST(SurroundingsTest, ABlockIsRedrawnOnlyWhereBothOutputsAreATerminalThatCan) {
  const Surroundings terminal = {
      .output_is_terminal = true, .errors_are_terminal = true, .term = "xterm", .no_color = ""};
  EXPECT_TRUE(CanRedraw(terminal));
  for (const auto& change : std::vector<void (*)(Surroundings&)>{
           [](Surroundings& s) { s.output_is_terminal = false; },
           [](Surroundings& s) { s.errors_are_terminal = false; },
           [](Surroundings& s) { s.term = "dumb"; }, [](Surroundings& s) { s.term = ""; }}) {
    Surroundings other = terminal;
    change(other);
    EXPECT_FALSE(CanRedraw(other));
  }
}

TEST(SurroundingsTest, NoColorSetToAnythingTurnsColoursOff) {
  EXPECT_TRUE(UsesColor({}));
  EXPECT_FALSE(UsesColor(
      {.output_is_terminal = true, .errors_are_terminal = true, .term = "xterm", .no_color = "0"}));
}

}  // namespace
}  // namespace conclave::cli
