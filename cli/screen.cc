#include "cli/screen.h"

#include <algorithm>

#include "cli/terminal_text.h"

namespace conclave::cli {
namespace {

// Control sequences of ECMA-48: select graphic rendition, cursor position, erase in page, in line.
constexpr char kReset[] = "\x1b[0m";
constexpr char kHome[] = "\x1b[H";
constexpr char kEraseBelow[] = "\x1b[J";
constexpr char kEraseRest[] = "\x1b[K";

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

std::string Paint(const Line& line, bool color) {
  std::string painted;
  for (const Span& span : line) {
    std::string text = span.text;
    std::replace(text.begin(), text.end(), '\n', ' ');
    std::replace(text.begin(), text.end(), '\t', ' ');
    painted += Painted(text, span.tone, color);
  }
  return painted;
}

}  // namespace

std::string Painted(std::string_view text, Tone tone, bool color) {
  const std::string shown = Printable(text);
  return color && tone != Tone::kPlain ? CodeOf(tone) + shown + kReset : shown;
}

std::string Frame(const std::vector<Line>& lines, bool color) {
  std::string bytes = kHome;
  for (size_t i = 0; i < lines.size(); ++i) {
    bytes += Paint(lines[i], color) + kEraseRest;
    if (i + 1 < lines.size()) bytes += "\r\n";
  }
  return bytes + kEraseBelow;
}

std::string Kept(const std::vector<Line>& lines, bool color) {
  std::string bytes;
  for (const Line& line : lines) bytes += Paint(line, color) + "\r\n";
  return bytes;
}

}  // namespace conclave::cli
