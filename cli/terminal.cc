#include "cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace conclave::cli {
namespace {

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

Surroundings Surroundings::Look() {
  return {.output_is_terminal = isatty(STDOUT_FILENO) == 1,
          .errors_are_terminal = isatty(STDERR_FILENO) == 1,
          .term = Variable("TERM"),
          .no_color = Variable("NO_COLOR")};
}

bool CanRedraw(const Surroundings& around) {
  return around.output_is_terminal && around.errors_are_terminal && !around.term.empty() &&
         around.term != "dumb";
}

bool UsesColor(const Surroundings& around) { return around.no_color.empty(); }

ViewSize Terminal::Size() const {
  winsize size = {};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) {
    return {};
  }
  return {.columns = size.ws_col, .rows = size.ws_row};
}

bool Terminal::IsForeground() const {
  const pid_t owner = tcgetpgrp(STDOUT_FILENO);
  return owner < 0 || owner == getpgrp();  // Below 0: a terminal that controls nobody.
}

void Terminal::Write(std::string_view bytes) const {
  while (!bytes.empty()) {
    const ssize_t written = write(STDOUT_FILENO, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    bytes.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace conclave::cli
