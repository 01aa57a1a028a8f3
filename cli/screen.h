#pragma once

#include <string>
#include <vector>

#include "cli/live_view.h"

namespace conclave::cli {

// What to send to a terminal so that it shows a block of lines below what it showed before, and a
// newer block in its place. The cursor rests at the first column of the block's last line. Keeps
// what was drawn; sends nothing itself. One thread.
class Screen {
 public:
  explicit Screen(bool color) : color_(color) {}

  // Replaces the block. `columns` is the terminal's width now: lines that were drawn when it was
  // wider have been wrapped by it since.
  // REQUIRES: no line is wider than columns - 1.
  std::string Redraw(const std::vector<Line>& lines, int columns);
  // Removes the block; the cursor stays where it began.
  std::string Erase(int columns);
  // Lines that stay, with their line breaks.
  // REQUIRES: no block is shown.
  std::string Keep(const std::vector<Line>& lines) const;
  // Leaves the block where it is: what is drawn next begins at the cursor.
  void Forget() { widths_.clear(); }

 private:
  std::string ToTop(int columns) const;
  std::string Paint(const Line& line) const;

  const bool color_;
  std::vector<int> widths_;  // Of the block's lines.
};

}  // namespace conclave::cli
