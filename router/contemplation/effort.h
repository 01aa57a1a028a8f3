#pragma once

#include <optional>

#include "router/contemplation/request.h"

namespace conclave::router {

// What Strategy::kAuto chooses. A change of these numbers raises kDecisionVersion: a replay is
// planned by them again.
struct EffortChoice {
  int agents = 1;    // At most.
  int wave = 1;      // That enter together.
  int votes = 1;     // For StopRule::kQuorum.
  double price = 0;  // Of another wave: Plan::price.
  // At which agents draw where a vote decides and nobody names a temperature: the model's own, but
  // no higher than this. Steadier agents are right more often and agree sooner, so fewer will do.
  float temperature = 1;
};
EffortChoice ChoiceOf(Effort effort);

// The same request, with what kAuto chooses in the place of what it leaves open: at most `cap`
// agents, and not fewer than its minimum. Any other strategy: unchanged.
Request WithEffort(Request request, int cap);

// What another wave of this request must be worth: 0 but for kAuto by StopRule::kQuorum or kBeta.
// Of one with a checker, no number of votes says what the next answer is worth.
double WavePriceOf(const Request& request);

// The highest temperature at which the agents of this request draw, when neither it nor its ladder
// names one: none but for kAuto without a checker. With one, a single right answer is enough, and
// agents that differ find it sooner.
std::optional<float> HottestOf(const Request& request);

// What a vote weighs where the request leaves the aggregation open: with kAuto, unless a checker
// decides, how likely its agent found its own words (kTraceProbability). Between few votes that
// differ this is what tells the right one.
VoteWeight VoteWeightOf(const Request& request);

}  // namespace conclave::router
