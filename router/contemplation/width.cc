#include "router/contemplation/width.h"

#include <algorithm>
#include <cmath>

namespace conclave::router {
namespace {

constexpr double kCheap = 0.25;  // The share of places from which on nothing is dear.

}  // namespace

double LoadLevel(int free, int taken) {
  free = std::max(0, free);
  taken = std::max(0, taken);
  if (free + taken == 0) return 0;  // Nothing is known.
  const double left = static_cast<double>(free) / (free + taken);
  return std::clamp(1 - left / kCheap, 0.0, 1.0);
}

int WidthAt(double load, int least, int most, double certain) {
  if (load <= 0) return most;
  const double worth = static_cast<double>(least) / most * 2 * (1 - std::clamp(certain, 0.5, 1.0));
  const double width = most * std::pow(worth, load);
  return std::clamp(static_cast<int>(width), least, std::max(least, most));
}

}  // namespace conclave::router
