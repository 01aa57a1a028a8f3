#pragma once

#include <string>
#include <string_view>

#include "cli/live_view.h"

namespace conclave::cli {

// What surrounds the program: decides how it shows a request.
struct Surroundings {
  bool output_is_terminal = false, errors_are_terminal = false;
  std::string term;      // TERM.
  std::string no_color;  // NO_COLOR.

  // Of this process.
  static Surroundings Look();
};

// True where a block of lines can be drawn again: both outputs are a terminal that knows how.
bool CanRedraw(const Surroundings& around);
// True unless NO_COLOR is set to anything (no-color.org).
bool UsesColor(const Surroundings& around);

// Standard output, where it is a terminal.
class Terminal {
 public:
  // Its size now; 80 x 24 where it does not say.
  ViewSize Size() const;
  // False while the shell has put the program into the background.
  bool IsForeground() const;
  // Blocks while the terminal is held; what cannot be written is lost.
  void Write(std::string_view bytes) const;
};

}  // namespace conclave::cli
