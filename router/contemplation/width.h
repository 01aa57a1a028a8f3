#pragma once

#include <vector>

// How many agents a family may have while tokens are dear. Pure; only a live family asks: what it
// decides stands in the receipt.
namespace conclave::router {

// How dear places are in a group, 0 to 1, by what others leave of them: of `places` they hold
// `taken`. 0 as long as an eighth is left: a family of the usual width that comes finds room in a
// group of the usual size, so nobody waits. Then rising evenly to 1 when nothing is left. It knows
// places only: a group that takes nobody for a moment, because prompts are being computed, is not
// dear.
double LoadLevel(int places, int taken);

// What a group has for a family, as Placed says it. `share` of all `shares` of the family's agents
// are the group's.
struct GroupRoom {
  int credits = 0, running = 0, places = 0;
  int share = 1, shares = 1;
};
// The same of groups that serve one family together: so many agents, shared out among them, all of
// them can take; how full they are, the fullest one says. REQUIRES: there is one.
GroupRoom JointRoom(const std::vector<GroupRoom>& groups);

// How many of `most` agents a request may have at `load`, those that entered before included;
// `least` it may always have. `certain`: the probability that the leader of its votes is right
// against the runner-up, 0.5 without votes.
//
// No doubling of the votes is worth more than the one before (README.md), so agent k is worth 1 / k
// of the first, and all of them 2 (1 - certain) of what they are worth before anybody voted. The
// price rises with the load, evenly on the scale of logarithms, from what agent `most` is worth to
// what agent `least` is: agents enter while they are worth it. That is most * w^load of them,
// w = least / most * 2 (1 - certain).
int WidthAt(double load, int least, int most, double certain);

}  // namespace conclave::router
