#include "router/contemplation/aggregation.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "common/check.h"

namespace conclave::router {
namespace {

using Placeholders = std::vector<std::pair<std::string_view, std::string_view>>;

std::string Fill(std::string_view text, const Placeholders& placeholders) {
  std::string filled;
  for (size_t at = 0; at < text.size();) {
    const std::string_view rest = text.substr(at);
    const auto found =
        std::find_if(placeholders.begin(), placeholders.end(),
                     [rest](const auto& p) { return rest.substr(0, p.first.size()) == p.first; });
    if (found == placeholders.end()) {
      filled += text[at++];
    } else {
      filled += found->second;
      at += found->first.size();
    }
  }
  return filled;
}

// Texts that say the same, in order of counting.
struct Choice {
  std::vector<const std::string*> texts;
  size_t taken = 0;
};

std::vector<Choice> Choices(const Ballot& ballot, const std::vector<CountedAnswer>& counted) {
  const auto text_of = [&](AgentId agent) -> const std::string* {
    for (const CountedAnswer& answer : counted) {
      if (answer.agent == agent) return &answer.text;
    }
    return nullptr;
  };
  std::vector<Choice> choices;
  for (const std::vector<AgentId>& voters : ballot.Voters()) {
    Choice choice;
    for (AgentId voter : voters) {
      const std::string* text = text_of(voter);
      if (text != nullptr && !text->empty()) choice.texts.push_back(text);
    }
    if (!choice.texts.empty()) choices.push_back(std::move(choice));
  }
  for (const CountedAnswer& answer : counted) {
    if (!answer.compared && !answer.text.empty()) choices.push_back({.texts = {&answer.text}});
  }
  return choices;
}

}  // namespace

bool VoteIsSure(const Ballot& ballot, int counted) {
  return ballot.lead() > 0 && (ballot.leading() > 1 || counted == 1);
}

std::vector<std::string> Candidates(const Ballot& ballot, const std::vector<CountedAnswer>& counted,
                                    int most) {
  std::vector<Choice> choices = Choices(ballot, counted);
  std::vector<std::string> candidates;
  const auto full = [&] { return candidates.size() >= static_cast<size_t>(std::max(most, 0)); };
  for (Choice& choice : choices) {
    if (full()) break;
    candidates.push_back(*choice.texts[choice.taken++]);
  }
  while (!full()) {
    Choice* next = nullptr;
    for (Choice& choice : choices) {
      if (choice.taken == choice.texts.size()) continue;
      // votes / (taken + 1), compared without division.
      if (next == nullptr ||
          choice.texts.size() * (next->taken + 1) > next->texts.size() * (choice.taken + 1)) {
        next = &choice;
      }
    }
    if (next == nullptr) break;
    candidates.push_back(*next->texts[next->taken++]);
  }
  return candidates;
}

bool CanSynthesise(const PromptProfile& profile) {
  return !profile.aggregate_text.empty() && profile.max_candidates > 0;
}

std::vector<Message> AggregationMessages(const PromptProfile& profile,
                                         const std::vector<Message>& messages,
                                         const std::vector<std::string>& candidates) {
  CHECK(!messages.empty());
  std::string lines;
  for (size_t i = 0; i < candidates.size(); ++i) {
    const std::string index = fmt::format("{}", i + 1);
    if (i > 0) lines += '\n';
    lines += Fill(profile.candidate_line, {{"{index}", index}, {"{answer}", candidates[i]}});
  }
  const std::string question = TextOf(messages.back());
  std::vector<Message> result = messages;
  result.back().parts = {
      {.text = Fill(profile.aggregate_text, {{"{question}", question}, {"{candidates}", lines}})}};
  return result;
}

}  // namespace conclave::router
