#include "router/contemplation/ballot.h"

#include <algorithm>
#include <utility>

namespace conclave::router {

void Ballot::Add(AgentId agent, const std::optional<std::string>& answer) {
  ends_.push_back(answer);
  if (!answer) return;
  const auto found = std::find_if(options_.begin(), options_.end(),
                                  [&](const Option& option) { return option.answer == *answer; });
  if (found != options_.end()) {
    found->voters.push_back(agent);
  } else {
    options_.push_back({.answer = *answer, .voters = {agent}, .first = votes_});
  }
  ++votes_;
  std::sort(options_.begin(), options_.end(), [](const Option& a, const Option& b) {
    return a.voters.size() != b.voters.size() ? a.voters.size() > b.voters.size()
                                              : a.first < b.first;
  });
}

std::vector<Vote> Ballot::Votes() const {
  std::vector<Vote> votes;
  for (const Option& option : options_) {
    const int count = static_cast<int>(option.voters.size());
    votes.push_back(
        {.answer = option.answer, .weight = static_cast<double>(count), .count = count});
  }
  return votes;
}

std::vector<std::vector<AgentId>> Ballot::Voters() const {
  std::vector<std::vector<AgentId>> voters;
  for (const Option& option : options_) voters.push_back(option.voters);
  return voters;
}

int Ballot::leading() const {
  return options_.empty() ? 0 : static_cast<int>(options_[0].voters.size());
}

int Ballot::lead() const {
  return leading() - (options_.size() < 2 ? 0 : static_cast<int>(options_[1].voters.size()));
}

int Ballot::AgreeingInWindow(int size) const {
  if (ends_.empty()) return 0;
  const auto begin = ends_.begin() + (ends() - 1) / size * size;
  const bool agree = begin->has_value() && std::all_of(begin, ends_.end(), [&](const auto& end) {
                       return end == *begin;
                     });
  return agree ? static_cast<int>(ends_.end() - begin) : 0;
}

}  // namespace conclave::router
