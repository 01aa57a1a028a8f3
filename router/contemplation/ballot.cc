#include "router/contemplation/ballot.h"

#include <algorithm>
#include <utility>

namespace conclave::router {

void Ballot::Add(AgentId agent, const std::optional<std::string>& answer, double weight,
                 bool accepted) {
  if (accepted && accepted_.empty()) {
    options_.clear();
    for (std::optional<std::string>& end : ends_) end.reset();
  }
  if (accepted) accepted_.push_back(agent);
  const bool votes = answer && (accepted || accepted_.empty());
  ends_.push_back(votes ? answer : std::nullopt);
  if (!votes) return;
  const auto found = std::find_if(options_.begin(), options_.end(),
                                  [&](const Option& option) { return option.answer == *answer; });
  if (found != options_.end()) {
    found->voters.push_back(agent);
    found->weight += weight;
  } else {
    options_.push_back({.answer = *answer, .voters = {agent}, .weight = weight, .first = votes_});
  }
  ++votes_;
  std::sort(options_.begin(), options_.end(), [](const Option& a, const Option& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.first < b.first;
  });
}

std::vector<Vote> Ballot::Votes() const {
  std::vector<Vote> votes;
  for (const Option& option : options_) {
    votes.push_back({.answer = option.answer,
                     .weight = option.weight,
                     .count = static_cast<int>(option.voters.size())});
  }
  return votes;
}

std::vector<std::vector<AgentId>> Ballot::Voters() const {
  std::vector<std::vector<AgentId>> voters;
  for (const Option& option : options_) voters.push_back(option.voters);
  return voters;
}

double Ballot::lead() const {
  if (options_.empty()) return 0;
  return options_[0].weight - (options_.size() < 2 ? 0 : options_[1].weight);
}

// Votes of each answer, most first; at least two numbers.
std::vector<int> Ballot::Counts() const {
  std::vector<int> counts = {0, 0};
  for (const Option& option : options_) counts.push_back(static_cast<int>(option.voters.size()));
  std::sort(counts.rbegin(), counts.rend());
  return counts;
}

int Ballot::leading() const { return Counts()[0]; }
int Ballot::runner_up() const { return Counts()[1]; }

bool Ballot::LeaderHasMost() const {
  return !options_.empty() && static_cast<int>(options_[0].voters.size()) == leading();
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
