#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/generation.h"

// How sure a model was of what it wrote: two quantities of the raw distribution, named apart.
//   chosen: the log-probability of the tokens that were drawn, <= 0.
//   top20:  DeepConf's confidence: minus the mean log-probability of the 20 likeliest tokens,
//           whichever was drawn, >= 0; the more peaked the distribution, the greater (Fu et al.,
//           "Deep Think with Confidence", arXiv 2508.15260).
// Each as the mean over a trace, and as the lowest mean over a window of it. Forced tokens were
// not drawn and are skipped. Functions of the tokens alone: values are rounded to multiples of
// 2^-24 (beyond 1024 in size they count as 1024) and summed as integers, so that every way to come
// to the same tokens gives the same bits.
namespace conclave {

inline constexpr int kUsualConfidenceWindow = 2048;  // DeepConf's.
inline constexpr int kMostConfidenceWindow = 65536;
inline constexpr double kMostConfidenceBar = 1024;

// Ends an agent at the drawn token at which the mean of its last `window` top20 values is below
// `bar`: not before there are so many (DeepConf, online). 0 = no bar.
struct ConfidenceBar {
  double bar = 0;  // 0 to kMostConfidenceBar.
  int window = kUsualConfidenceWindow;

  bool operator==(const ConfidenceBar&) const = default;
};

// Means of a sequence of numbers and of windows of it. Holds the last `window` numbers.
class WindowedMean {
 public:
  // 1 to kMostConfidenceWindow.
  explicit WindowedMean(int window);

  void Add(double value);

  int count() const { return count_; }
  // Of all; 0 without any.
  double mean() const;
  // Of the last window, and the lowest that there was; while there is none that is full, mean().
  double last() const;
  double lowest() const;
  bool full() const { return count_ >= window_; }

 private:
  const int window_;
  std::vector<int64_t> ring_;  // The last ones, in units of 2^-24.
  size_t next_ = 0;            // Where the oldest one stands once the ring is full.
  int count_ = 0;
  int64_t sum_ = 0, window_sum_ = 0, lowest_sum_ = 0;
};

// Of one agent's tokens, one after another.
class TraceConfidence {
 public:
  explicit TraceConfidence(int window = kUsualConfidenceWindow);

  void Add(const TokenEvent& token);

  const WindowedMean& chosen() const { return chosen_; }
  const WindowedMean& top20() const { return top20_; }
  // The probability of `tokens` that are as likely as the drawn ones on average, so of 1 their
  // geometric mean: e^(tokens * chosen().mean()), with the same bits on every machine. 0 without
  // any.
  double MeanProbability(int tokens = 1) const;

 private:
  WindowedMean chosen_, top20_;
};

}  // namespace conclave
