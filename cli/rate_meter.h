#pragma once

#include <cstdint>
#include <deque>

namespace conclave::cli {

// How fast a count grows, over the last two seconds. Time is the caller's, in seconds. One thread.
class RateMeter {
 public:
  // REQUIRES: neither is less than at the call before.
  void Add(double seconds, int64_t count) {
    samples_.push_back({seconds, count});
    while (samples_.size() > 2 && seconds - samples_[1].seconds >= kWindow) samples_.pop_front();
  }
  // 0 until there are two moments to compare.
  double PerSecond() const {
    if (samples_.empty()) return 0;
    const double passed = samples_.back().seconds - samples_.front().seconds;
    if (passed <= 0) return 0;
    return static_cast<double>(samples_.back().count - samples_.front().count) / passed;
  }

 private:
  static constexpr double kWindow = 2;

  struct Sample {
    double seconds = 0;
    int64_t count = 0;
  };

  std::deque<Sample> samples_;  // At most one is older than the window.
};

}  // namespace conclave::cli
