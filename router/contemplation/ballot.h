#pragma once

#include <string>
#include <vector>

#include "common/types.h"
#include "router/contemplation/client_event.h"

namespace conclave::router {

// The votes of a round, each of weight 1, in the order in which ends were counted.
class Ballot {
 public:
  // `answer` as the key found it.
  void Add(AgentId agent, const std::string& answer);

  bool empty() const { return options_.empty(); }
  // Most votes first, ties in order of counting. The first one leads.
  std::vector<Vote> Votes() const;
  // Who gave the answer of Votes()[i], in order of counting.
  std::vector<std::vector<AgentId>> Voters() const;
  // Votes of the leader, and by how many it leads.
  int leading() const;
  int lead() const;

 private:
  struct Option {
    std::string answer;
    std::vector<AgentId> voters;
    int first = 0;  // Votes that were counted before its first one.
  };

  std::vector<Option> options_;  // Most votes first, ties in order of counting.
  int votes_ = 0;
};

// The stop rule `settled`: someone leads by more than the votes still to come, so that these cannot
// even tie.
bool Settled(const Ballot& ballot, int to_come);

}  // namespace conclave::router
