#include "router/contemplation/vote_weight.h"

#include <algorithm>
#include <cmath>

namespace conclave::router {
namespace {

constexpr double kFullConfidence = 32;
constexpr double kUnits = 1 << 30;

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
  }
  return 1;
}

}  // namespace

double WeightOf(const TraceConfidence& trace, VoteWeight weight) {
  const double raw = std::clamp(Raw(trace, weight), 0.0, 1.0);
  return std::max(1.0, std::round(raw * kUnits)) / kUnits;
}

}  // namespace conclave::router
