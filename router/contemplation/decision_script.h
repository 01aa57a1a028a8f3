#pragma once

#include <absl/status/status.h>

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "common/types.h"
#include "router/contemplation/request.h"

namespace conclave::router {

// The decisions of a replay, taken in order: what may enter when, and where it will be cut.
class DecisionScript {
 public:
  explicit DecisionScript(std::vector<Decision> decisions) : decisions_(std::move(decisions)) {}

  // Who may be named: `agents` (`first` of them enter first) in each of the first round and
  // `rounds` behind it and, where the question is split, the splitter and as many for its parts.
  struct Cast {
    int agents = 1, first = 1, rounds = 0;
    bool splits = false;
  };
  // kInvalidArgument when no run could have made them: numbers that do not count up from 1, clocks
  // that go back, agents that are not of the `cast` (the synthesiser may only be given up or
  // cut), an agent that joins, is narrowed or is cut twice, cuts above `most` tokens, or lists that
  // do not belong to their kind (or are empty where somebody must be named), or none who begins of
  // those that enter first (unless it is stopped before anybody does).
  static absl::Status Check(const std::vector<Decision>& decisions, const Cast& cast, int most);

  // The first one that was not taken yet; null when all were.
  const Decision* next() const { return next_ < decisions_.size() ? &decisions_[next_] : nullptr; }
  void Take() { ++next_; }

  // The count at which a decision cuts it.
  std::optional<int> CutOf(AgentId agent) const;
  // Whether it neither joins late nor stays out: it starts where its wave is opened.
  bool Starts(AgentId agent) const;

 private:
  std::vector<Decision> decisions_;
  size_t next_ = 0;
};

// "decision 2 (drop at clock 17)"
std::string NameOf(const Decision& decision);

}  // namespace conclave::router
