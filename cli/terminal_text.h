#pragma once

#include <string>
#include <string_view>
#include <vector>

// Text of callers and models on a terminal: made harmless, and measured in columns. Columns are
// those of Unicode's East Asian width (wide and fullwidth take two, ambiguous ones take one);
// combining marks and joiners take none. Where terminals differ the greater width is taken, so that
// a line that fits by these functions never wraps.
namespace conclave::cli {

// True when all bytes of `text` are UTF-8, as the API wants it.
bool IsUtf8(std::string_view text);

// `text` with all that could steer a terminal replaced by '?': control characters other than '\n'
// and '\t', the second set of them (U+0080 to U+009F), line and paragraph separators, and controls
// of the writing direction. Bytes that are no UTF-8 become U+FFFD.
std::string Printable(std::string_view text);

// The same on one line: runs of spaces, tabs and line breaks become one space, none at the ends.
std::string OneLine(std::string_view text);

// `text` in quotes, on one line, with nothing hidden: \n, \t, \" and \\ as in C, and what could
// steer a terminal or is no UTF-8 byte by byte as \x1b.
std::string Quoted(std::string_view text);

// How wide `text` is, a line that Printable() has passed.
int Columns(std::string_view text);

// The beginning of a line, at most `columns` wide; "..." stands for what is left out.
std::string Fit(std::string_view line, int columns);

// The end of a line, at most `columns` wide; "..." stands for what is left out.
std::string FitEnd(std::string_view line, int columns);

// `text` as lines at most `columns` (at least 2) wide, broken at spaces where there are any.
std::vector<std::string> Wrap(std::string_view text, int columns);

}  // namespace conclave::cli
