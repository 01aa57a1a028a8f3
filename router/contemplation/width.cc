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

GroupRoom JointRoom(const std::vector<GroupRoom>& groups) {
  const auto level = [](const GroupRoom& room) {
    const int places = room.places > 0 ? room.places : room.credits + room.running;
    return LoadLevel(places, room.running);
  };
  const GroupRoom& fullest = *std::max_element(
      groups.begin(), groups.end(),
      [&](const GroupRoom& a, const GroupRoom& b) { return level(a) < level(b); });
  const auto of_all = [](int part, const GroupRoom& room) {
    return part * room.shares / room.share;
  };
  GroupRoom joint = {.credits = of_all(groups.front().credits, groups.front()),
                     .running = of_all(fullest.running, fullest),
                     .places = of_all(fullest.places, fullest)};
  for (const GroupRoom& room : groups)
    joint.credits = std::min(joint.credits, of_all(room.credits, room));
  return joint;
}

int WidthAt(double load, int least, int most, double certain) {
  if (load <= 0) return most;
  const double worth = static_cast<double>(least) / most * 2 * (1 - std::clamp(certain, 0.5, 1.0));
  const double width = most * std::pow(worth, load);
  return std::clamp(static_cast<int>(width), least, std::max(least, most));
}

}  // namespace conclave::router
