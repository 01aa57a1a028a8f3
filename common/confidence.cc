#include "common/confidence.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"

namespace conclave {
namespace {

constexpr double kUnits = 1 << 24;
constexpr double kGreatest = 1024;

// e^x for x <= 0 by operations that round alike everywhere; std::exp is each library's own.
// x = n ln 2 + r with |r| <= ln 2 / 2: 14 terms of the series are below a double's last bit.
double Exp(double x) {
  constexpr double kLog2E = 1.4426950408889634;
  constexpr double kLn2High = 6.93147180369123816490e-01, kLn2Low = 1.90821492927058770002e-10;
  const double n = std::floor(x * kLog2E + 0.5);
  const double r = (x - n * kLn2High) - n * kLn2Low;
  double sum = 1;
  for (int i = 14; i > 0; --i) sum = 1 + sum * r / i;
  return std::ldexp(sum, static_cast<int>(n));
}

}  // namespace

WindowedMean::WindowedMean(int window) : window_(window) {
  CHECK(window >= 1 && window <= kMostConfidenceWindow);
}

void WindowedMean::Add(double value) {
  const double bounded = std::isnan(value) ? -kGreatest : std::clamp(value, -kGreatest, kGreatest);
  const int64_t units = std::llround(bounded * kUnits);
  sum_ += units;
  window_sum_ += units;
  if (full()) {
    window_sum_ -= ring_[next_];
    ring_[next_] = units;
    next_ = (next_ + 1) % ring_.size();
  } else {
    ring_.push_back(units);
  }
  ++count_;
  if (count_ == window_ || (full() && window_sum_ < lowest_sum_)) lowest_sum_ = window_sum_;
}

double WindowedMean::mean() const {
  return count_ == 0 ? 0 : static_cast<double>(sum_) / kUnits / count_;
}

double WindowedMean::last() const {
  return full() ? static_cast<double>(window_sum_) / kUnits / window_ : mean();
}

double WindowedMean::lowest() const {
  return full() ? static_cast<double>(lowest_sum_) / kUnits / window_ : mean();
}

TraceConfidence::TraceConfidence(int window) : chosen_(window), top20_(window) {}

void TraceConfidence::Add(const TokenEvent& token) {
  if (token.kind != TokenKind::kSampled) return;
  chosen_.Add(token.logprob);
  top20_.Add(-double{token.top_logprob_mean});
}

double TraceConfidence::MeanProbability(int tokens) const {
  return chosen_.count() == 0 ? 0 : Exp(tokens * std::min(0.0, chosen_.mean()));
}

}  // namespace conclave
