#include "router/contemplation/stop_rule.h"

namespace conclave::router {

// I_{1/2}(a, b) is the chance of at least a heads in a + b - 1 throws of a fair coin. The rows of
// Pascal's triangle up to the 129th, divided by their sum, are what a double holds without a step
// that could round differently elsewhere.
double LeaderProbability(int leader, int runner_up) {
  const int throws = leader + runner_up + 1;
  double chance = 1;  // Of exactly `heads` heads.
  for (int i = 0; i < throws; ++i) chance /= 2;
  double at_least = 0;
  for (int heads = 0; heads <= throws; ++heads) {
    if (heads > leader) at_least += chance;
    chance = chance * (throws - heads) / (heads + 1);
  }
  return 1 - at_least;
}

double StopValue(const StopTest& test, const Ballot& ballot, int to_come) {
  switch (test.rule) {
    case StopRule::kNone:
      return 0;
    case StopRule::kSettled:
      return ballot.lead() - to_come;
    case StopRule::kBeta:
      return LeaderProbability(ballot.leading(), ballot.runner_up());
    case StopRule::kWindow:
      return ballot.AgreeingInWindow(test.votes);
    case StopRule::kFirst:
      return ballot.ends();
    case StopRule::kQuorum:
      return ballot.leading();
    case StopRule::kAccepted:
      return static_cast<double>(ballot.accepted().size());
  }
  return 0;
}

bool Stops(const StopTest& test, const Ballot& ballot, int to_come) {
  const double value = StopValue(test, ballot, to_come);
  if (test.checked && test.rule != StopRule::kFirst && ballot.accepted().empty()) return false;
  switch (test.rule) {
    case StopRule::kNone:
      return false;
    case StopRule::kSettled:
      return !ballot.empty() && value > 0;
    case StopRule::kBeta:
      return value >= test.certainty && ballot.LeaderHasMost() && ballot.lead() > 0;
    case StopRule::kWindow:
    case StopRule::kFirst:
    case StopRule::kQuorum:
      return value >= test.votes;
    case StopRule::kAccepted:
      return value > 0;
  }
  return false;
}

}  // namespace conclave::router
