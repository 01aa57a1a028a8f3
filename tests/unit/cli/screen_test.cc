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

// A terminal of the kind that wraps lines anew when its width changes. Knows the few sequences that
// a screen sends; one column a byte.
class FakeTerminal {
 public:
  void Feed(const std::string& bytes) {
    for (size_t i = 0; i < bytes.size(); ++i) {
      if (bytes[i] == '\r') {
        column_ = 0;
      } else if (bytes[i] == '\n') {
        if (++row_ == rows_.size()) rows_.emplace_back();
      } else if (bytes[i] == '\x1b') {
        i = Sequence(bytes, i + 2);
      } else {
        std::string& row = rows_[row_];
        row.resize(std::max(row.size(), column_ + 1), ' ');
        row[column_++] = bytes[i];
      }
    }
  }
  // Narrower: each row becomes as many as it needs. The cursor is at a first column.
  void Narrow(size_t columns) {
    std::vector<std::string> wrapped;
    size_t cursor = 0;
    for (size_t r = 0; r < rows_.size(); ++r) {
      if (r == row_) cursor = wrapped.size();
      size_t at = 0;
      do {
        wrapped.push_back(rows_[r].substr(at, columns));
        at += columns;
      } while (at < rows_[r].size());
    }
    rows_ = wrapped;
    row_ = cursor;
  }
  const std::vector<std::string>& rows() const { return rows_; }

 private:
  size_t Sequence(const std::string& bytes, size_t at) {
    size_t number = 0;
    for (; bytes[at] >= '0' && bytes[at] <= '9'; ++at) number = 10 * number + bytes[at] - '0';
    if (bytes[at] == 'A') row_ -= std::min(row_, number);
    if (bytes[at] == 'K' || bytes[at] == 'J') {
      rows_[row_].resize(std::min(rows_[row_].size(), column_));
    }
    if (bytes[at] == 'J') rows_.resize(row_ + 1);
    return at;
  }

  std::vector<std::string> rows_ = {""};
  size_t row_ = 0, column_ = 0;
};

std::vector<Line> Block(const std::vector<std::string>& texts) {
  std::vector<Line> lines;
  for (const std::string& text : texts) lines.push_back({{text, Tone::kGood}});
  return lines;
}

class ScreenTest : public testing::Test {
 protected:
  FakeTerminal terminal_;
  Screen screen_{/*color=*/false};
};

TEST_F(ScreenTest, ANewBlockTakesTheOldOnesPlaceBelowWhatWasThere) {
  terminal_.Feed("$ conclave ask\r\n");
  terminal_.Feed(screen_.Redraw(Block({"title", "agent one", "agent two"}), 80));
  terminal_.Feed(screen_.Redraw(Block({"title", "one", "two", "three"}), 80));
  EXPECT_THAT(terminal_.rows(), ElementsAre("$ conclave ask", "title", "one", "two", "three"));

  terminal_.Feed(screen_.Redraw(Block({"title", "one"}), 80));
  EXPECT_THAT(terminal_.rows(), ElementsAre("$ conclave ask", "title", "one"));
}

TEST_F(ScreenTest, WhatWasDrawnIsErasedAndWhatIsKeptStays) {
  terminal_.Feed("$ conclave ask\r\n");
  terminal_.Feed(screen_.Redraw(Block({"title", "agent one", "agent two"}), 80));
  terminal_.Feed(screen_.Erase(80));
  terminal_.Feed(screen_.Keep(Block({"done"})));

  EXPECT_THAT(terminal_.rows(), ElementsAre("$ conclave ask", "done", ""));
}

TEST_F(ScreenTest, LinesThatANarrowerTerminalWrappedAreErasedToo) {
  terminal_.Feed("$ conclave ask\r\n");
  terminal_.Feed(screen_.Redraw(Block({"a title of some width", "agent one thinks", "vote"}), 80));
  terminal_.Narrow(10);
  terminal_.Feed(screen_.Redraw(Block({"a title", "agent"}), 10));

  EXPECT_THAT(terminal_.rows(), ElementsAre("$ conclave", " ask", "a title", "agent"));
}

TEST_F(ScreenTest, AnEchoOfCtrlCDisappearsWithTheNextBlock) {
  terminal_.Feed(screen_.Redraw(Block({"title", "agent"}), 80));
  terminal_.Feed("^C");
  terminal_.Feed(screen_.Redraw(Block({"title", "agent"}), 80));

  EXPECT_THAT(terminal_.rows(), ElementsAre("title", "agent"));
}

TEST_F(ScreenTest, NothingIsColouredUnlessColoursAreWanted) {
  EXPECT_THAT(screen_.Keep(Block({"x"})), Not(HasSubstr("\x1b")));
  EXPECT_EQ(Screen(/*color=*/true).Keep(Block({"x"})), "\x1b[32mx\x1b[0m\r\n");
}

TEST_F(ScreenTest, NoTextOfALineReachesTheTerminalAsAControlSequence) {
  EXPECT_EQ(screen_.Keep(Block({"\x1b[2J\r\n\xc2\x9b\u202e"})), "?[2J? ??\r\n");
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
