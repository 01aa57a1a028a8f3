#include "router/contemplation/width.h"

#include <algorithm>
#include <cmath>

namespace conclave::router {
namespace {

constexpr double kCheap = 0.125;  // The share of places from which on nothing is dear.

}  // namespace

double LoadLevel(int places, int taken) {
  if (places <= 0) return 0;  // Nothing is known.
  const double left = static_cast<double>(places - taken) / places;
  return std::clamp(1 - left / kCheap, 0.0, 1.0);
}

int WidthAt(double load, int least, int most, double certain) {
  if (load <= 0) return most;
  const double worth = static_cast<double>(least) / most * 2 * (1 - std::clamp(certain, 0.5, 1.0));
  const double width = most * std::pow(worth, load);
  return std::clamp(static_cast<int>(width), least, std::max(least, most));
}

}  // namespace conclave::router
