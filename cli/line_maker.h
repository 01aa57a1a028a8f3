#pragma once

#include <algorithm>
#include <string>
#include <utility>

#include "cli/live_view.h"
#include "cli/terminal_text.h"

// How the lines of a view are put together: columns that fit the terminal.
namespace conclave::cli {

inline constexpr int kWide = 60;    // Columns from which on names and states are spelt out,
inline constexpr int kNarrow = 30;  // and below which a state is one character.

// Puts a line together; each piece takes what is left of the width.
class LineMaker {
 public:
  explicit LineMaker(int columns) : left_(columns - 1) {}
  // Padded to `columns` on the right, then a space.
  void Column(const std::string& text, int columns, Tone tone = Tone::kPlain) {
    const std::string shown = Fit(text, columns);
    const int pad = std::max(columns - Columns(shown), 0) + 1;
    Add(shown, tone);
    Add(std::string(static_cast<size_t>(pad), ' '), Tone::kPlain);
  }
  void Add(const std::string& text, Tone tone = Tone::kPlain) { Push(Fit(text, left_), tone); }
  void AddEnd(const std::string& text, Tone tone = Tone::kPlain) {
    Push(FitEnd(text, left_), tone);
  }
  int left() const { return left_; }
  Line Take() { return std::move(line_); }

 private:
  void Push(std::string text, Tone tone) {
    if (text.empty()) return;
    left_ -= Columns(text);
    line_.push_back({std::move(text), tone});
  }

  int left_;
  Line line_;
};

inline int LabelWidth(int columns) { return columns >= kWide ? 11 : columns >= kNarrow ? 6 : 2; }

// A label's column, and what follows.
inline LineMaker Labelled(const std::string& label, int columns, Tone tone = Tone::kPlain) {
  LineMaker line(columns);
  line.Column(label, LabelWidth(columns), tone);
  return line;
}

}  // namespace conclave::cli
