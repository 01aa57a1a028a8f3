#pragma once

#include <optional>

#include "router/contemplation/request.h"

namespace conclave::router {

// What Strategy::kAuto chooses. A change of these numbers raises kDecisionVersion: a replay is
// planned by them again.
struct EffortChoice {
  int agents = 1;           // At most.
  int wave = 1;             // That enter together.
  double certainty = 0.95;  // For StopRule::kBeta.
  double price = 0;         // Of another wave: Plan::price.
};
EffortChoice ChoiceOf(Effort effort);

// The same request, with what kAuto chooses in the place of what it leaves open: at most `cap`
// agents, and not fewer than its minimum. Any other strategy: unchanged.
Request WithEffort(Request request, int cap);

// What another wave of this request must be worth: 0 but for kAuto by StopRule::kBeta. Of one with
// a checker, no number of votes says what the next answer is worth.
double WavePriceOf(const Request& request);

// Whether the first of several agents takes the likeliest token each time: for kAuto, where nobody
// names a temperature and no checker decides. It is right more often than any other one, and the
// others, which draw at the model's own, are what tells whether it is. With a checker a single
// right answer is enough, and agents that differ find it sooner.
bool FirstTakesLikeliest(const Request& request);

// What a vote weighs where the request leaves the aggregation open: with kAuto, unless a checker
// decides, how likely its agent found its own words (kTraceProbability). Between few votes that
// differ this is what tells the right one.
VoteWeight VoteWeightOf(const Request& request);

}  // namespace conclave::router
