#pragma once

#include <absl/time/clock.h>
#include <absl/time/time.h>

#include <map>
#include <ostream>
#include <string>

#include "cli/eval/outcome.h"

namespace conclave::cli {

// Says how far an evaluation is: at a terminal one line that is drawn again, elsewhere a line now
// and then. One thread.
class Progress {
 public:
  // `redraw`: `notes` is a terminal.
  Progress(std::ostream& notes, bool redraw, size_t questions)
      : notes_(notes), redraw_(redraw), left_(questions) {}
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void On(const Outcome& outcome);

 private:
  struct Count {
    int asked = 0, right = 0, errors = 0;
  };

  std::ostream& notes_;
  const bool redraw_;
  size_t left_, done_ = 0;
  const absl::Time began_ = absl::Now();
  absl::Time shown_ = absl::InfinitePast();
  bool drawn_ = false;
  std::map<std::string, Count> arms_;
};

}  // namespace conclave::cli
