#pragma once

#include <optional>
#include <string>
#include <vector>

#include "common/types.h"
#include "router/contemplation/client_event.h"

namespace conclave::router {

// The votes of a round, each of weight 1, in the order in which ends were counted.
class Ballot {
 public:
  // The next end: with the answer as the key found it, or without one.
  void Add(AgentId agent, const std::optional<std::string>& answer);

  bool empty() const { return options_.empty(); }
  // Most votes first, ties in order of counting. The first one leads.
  std::vector<Vote> Votes() const;
  // Who gave the answer of Votes()[i], in order of counting.
  std::vector<std::vector<AgentId>> Voters() const;
  // Votes of the leader, and by how many it leads.
  int leading() const;
  int lead() const;
  // Ends so far, with an answer or without.
  int ends() const { return static_cast<int>(ends_.size()); }
  // Ends are taken in windows of `size`, one after another: how many there are in the last one (a
  // full one counts until the next end), if they all gave the same answer; else 0.
  int AgreeingInWindow(int size) const;

 private:
  struct Option {
    std::string answer;
    std::vector<AgentId> voters;
    int first = 0;  // Votes that were counted before its first one.
  };

  std::vector<Option> options_;                   // Most votes first, ties in order of counting.
  std::vector<std::optional<std::string>> ends_;  // Their answers, in order of counting.
  int votes_ = 0;
};

}  // namespace conclave::router
