#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/live_view.h"

// What to send to a terminal so that it shows lines. Sends nothing itself.
namespace conclave::cli {

// Onto the terminal's second screen and back (xterm's modes 1049, 7 and 25): what was there before
// stays untouched, nothing that is drawn goes into the scrollback, and no terminal wraps it anew
// when its size changes. The cursor is hidden and long lines are cut meanwhile. Terminals that have
// one screen only are left with an empty one.
inline constexpr char kEnterScreen[] = "\x1b[?1049h\x1b[?7l\x1b[?25l";
inline constexpr char kLeaveScreen[] = "\x1b[H\x1b[J\x1b[?25h\x1b[?7h\x1b[?1049l";

// The whole second screen: these lines from its top on. Right whatever it showed before, and
// whatever its size was then.
// REQUIRES: no more lines than the screen has rows; no line wider than its columns less one.
std::string Frame(const std::vector<Line>& lines, bool color);

// Harmless text in a tone, its line breaks and tabs included.
std::string Painted(std::string_view text, Tone tone, bool color);

// Lines that stay, with their line breaks.
std::string Kept(const std::vector<Line>& lines, bool color);

}  // namespace conclave::cli
