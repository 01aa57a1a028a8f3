#include "cli/screen.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/terminal_text.h"

namespace conclave::cli {
namespace {

// Control sequences of ECMA-48: select graphic rendition, erase to the end of line and of page.
constexpr char kReset[] = "\x1b[0m";
constexpr char kEraseLine[] = "\x1b[K";
constexpr char kEraseBelow[] = "\x1b[J";

const char* CodeOf(Tone tone) {
  switch (tone) {
    case Tone::kPlain:
      return "";
    case Tone::kStrong:
      return "\x1b[1m";
    case Tone::kFaint:
      return "\x1b[2m";
    case Tone::kBusy:
      return "\x1b[36m";
    case Tone::kGood:
      return "\x1b[32m";
    case Tone::kBad:
      return "\x1b[31m";
  }
  return "";
}

}  // namespace

std::string Screen::Paint(const Line& line) const {
  std::string painted;
  for (const Span& span : line) {
    // Views give harmless text already; here it holds for every view.
    std::string text = Printable(span.text);
    std::replace(text.begin(), text.end(), '\n', ' ');
    std::replace(text.begin(), text.end(), '\t', ' ');
    const bool colored = color_ && span.tone != Tone::kPlain;
    if (colored) painted += CodeOf(span.tone);
    painted += text;
    if (colored) painted += kReset;
  }
  return painted;
}

std::string Screen::ToTop(int columns) const {
  int up = 0;
  for (size_t i = 0; i + 1 < widths_.size(); ++i) {
    up += std::max((widths_[i] + columns - 1) / columns, 1);
  }
  return up > 0 ? fmt::format("\x1b[{}A\r", up) : std::string("\r");
}

std::string Screen::Redraw(const std::vector<Line>& lines, int columns) {
  std::string bytes = ToTop(std::max(columns, 1));
  widths_.clear();
  for (size_t i = 0; i < lines.size(); ++i) {
    bytes += Paint(lines[i]) + (i + 1 < lines.size() ? std::string(kEraseLine) + "\r\n" : "");
    widths_.push_back(WidthOf(lines[i]));
  }
  return bytes + kEraseBelow + "\r";
}

std::string Screen::Erase(int columns) {
  const std::string bytes = ToTop(std::max(columns, 1)) + kEraseBelow;
  widths_.clear();
  return bytes;
}

std::string Screen::Keep(const std::vector<Line>& lines) const {
  std::string bytes;
  for (const Line& line : lines) bytes += Paint(line) + "\r\n";
  return bytes;
}

}  // namespace conclave::cli
