#include "router/contemplation/vote_weight.h"

#include <algorithm>
#include <cmath>

namespace conclave::router {
namespace {

constexpr double kFullConfidence = 32;
constexpr int kTraceTokens = 512;
constexpr double kLeast = 0x1p-1000;
constexpr int kBits = 24;

double Raw(const TraceConfidence& trace, VoteWeight weight) {
  switch (weight) {
    case VoteWeight::kOne:
      return 1;
    case VoteWeight::kMeanProbability:
      return trace.MeanProbability();
    case VoteWeight::kTop20Mean:
      return trace.top20().mean() / kFullConfidence;
    case VoteWeight::kTop20LowestWindow:
      return trace.top20().lowest() / kFullConfidence;
    case VoteWeight::kTraceProbability:
      return trace.MeanProbability(kTraceTokens);
  }
  return 1;
}

// To kBits significant bits.
double Rounded(double x) {
  int exponent = 0;
  const double fraction = std::frexp(x, &exponent);
  return std::ldexp(std::round(std::ldexp(fraction, kBits)), exponent - kBits);
}

}  // namespace

double WeightOf(const TraceConfidence& trace, VoteWeight weight) {
  return Rounded(std::clamp(Raw(trace, weight), kLeast, 1.0));
}

}  // namespace conclave::router
