#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/types.h"
#include "router/contemplation/client_event.h"

namespace conclave::router {

// The votes of a round, in the order in which ends were counted. Weights are what vote_weight.h
// makes; in a plain vote each is 1.
class Ballot {
 public:
  // The next end: with the answer as the key found it, or without one (then the weight means
  // nothing). From the first that the checker accepts on, no other one has a vote: those that were
  // cast before lose theirs, and later ones are taken as ends without an answer.
  void Add(AgentId agent, const std::optional<std::string>& answer, double weight = 1,
           bool accepted = false);

  bool empty() const { return options_.empty(); }
  // The greatest weight first, ties in order of counting. The first one leads.
  std::vector<Vote> Votes() const;
  // Who gave the answer of Votes()[i], in order of counting.
  std::vector<std::vector<AgentId>> Voters() const;
  // By how much weight the first leads the second.
  double lead() const;
  // The greatest number of votes that an answer has, and the next one's.
  int leading() const;
  int runner_up() const;
  // Whether the first has that number.
  bool LeaderHasMost() const;
  // Who were accepted, in order of counting.
  const std::vector<AgentId>& accepted() const { return accepted_; }
  // Ends so far, with an answer or without.
  int ends() const { return static_cast<int>(ends_.size()); }
  // Ends are taken in windows of `size`, one after another: how many there are in the last one (a
  // full one counts until the next end), if they all gave the same answer; else 0.
  int AgreeingInWindow(int size) const;

 private:
  struct Option {
    std::string answer;
    std::vector<AgentId> voters;
    double weight = 0;
    int first = 0;  // Votes that were counted before its first one.
  };

  std::vector<int> Counts() const;

  std::vector<Option> options_;  // The greatest weight first, ties in order of counting.
  std::vector<std::optional<std::string>> ends_;  // Their answers, in order of counting.
  int votes_ = 0;
  std::vector<AgentId> accepted_;
};

}  // namespace conclave::router
