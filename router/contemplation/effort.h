#pragma once

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

}  // namespace conclave::router
