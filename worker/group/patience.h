#pragma once

#include <absl/time/time.h>

#include <algorithm>
#include <cstdint>

namespace conclave::worker {

// How much longer somebody waits, counted in the waiter's own short turns and not by a clock: a
// pause of the whole machine costs at most one turn. One thread.
class Patience {
 public:
  explicit Patience(absl::Duration total) : left_(total) {}

  bool over() const { return left_ <= absl::ZeroDuration(); }
  // The next turn's length.
  absl::Duration Turn() const { return std::min(left_, absl::Milliseconds(50)); }
  // A turn of that length went by without what was waited for. `elapsed` beyond the turn is not
  // counted.
  void Spend(absl::Duration turn, absl::Duration elapsed) { left_ -= std::min(turn, elapsed); }

 private:
  absl::Duration left_;
};

// Counts for how many turns in a row a counter has stood still. One thread.
class Stillness {
 public:
  // One turn of the watcher went by, and the counter reads `value`. The number of turns since it
  // last moved.
  int64_t Turn(uint64_t value) {
    turns_ = value == value_ ? turns_ + 1 : 0;
    value_ = value;
    return turns_;
  }
  uint64_t value() const { return value_; }

 private:
  uint64_t value_ = 0;
  int64_t turns_ = 0;
};

}  // namespace conclave::worker
