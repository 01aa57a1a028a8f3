#pragma once

#include "router/contemplation/ballot.h"
#include "router/contemplation/request.h"

// When the rest of a round is cut because the answer is known. Pure: looked at after each counted
// end, and after a decision that leaves fewer votes to come.
namespace conclave::router {

// A request's stop rule, resolved for the planned number of agents.
struct StopTest {
  StopRule rule = StopRule::kSettled;
  double certainty = 0.95;  // kBeta.
  int votes = 0;            // kWindow, kFirst, kQuorum: where the value stops.
  bool checked = false;     // Answers are checked: rejected ones settle nothing.
};

// What the stream shows of it (VoteUpdate.stop_value in conclave.proto).
double StopValue(const StopTest& test, const Ballot& ballot, int to_come);

// Whether the round stops here. Never before somebody voted, but for kFirst. kSettled looks at
// weights: a vote to come weighs at most 1. kBeta looks at counts, and stops only if its leader
// leads by weight too; all others look at counts. Where answers are checked, kSettled, kBeta,
// kWindow and kQuorum wait for one that is accepted: any vote to come may be it, and then those
// before it are none.
bool Stops(const StopTest& test, const Ballot& ballot, int to_come);

// The probability that the answer with `leader` votes is the likelier one of the two, from uniform
// priors: 1 - I_{1/2}(leader + 1, runner_up + 1), the Beta rule of Aggarwal et al., "Let's Sample
// Step by Step: Adaptive-Consistency" (EMNLP 2023). Sums of binomials, without a step
// that could round differently elsewhere: the same on every machine.
double LeaderProbability(int leader, int runner_up);

}  // namespace conclave::router
