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

std::vector<Message> WithLastTurn(const std::vector<Message>& messages, std::string text) {
  CHECK(!messages.empty());
  std::vector<Message> result = messages;
  result.back().parts = {{.text = std::move(text)}};
  return result;
}

std::vector<Message> Asked(const std::string& text, const std::vector<Message>& messages,
                           const std::string& lines) {
  CHECK(!messages.empty());
  const std::string question = TextOf(messages.back());
  return WithLastTurn(messages, Fill(text, {{"{question}", question}, {"{candidates}", lines}}));
}

std::string CandidateLines(const PromptProfile& profile,
                           const std::vector<std::string>& candidates) {
  std::string lines;
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (i > 0) lines += '\n';
    lines += Fill(profile.candidate_line,
                  {{"{index}", fmt::format("{}", i + 1)}, {"{answer}", candidates[i]}});
  }
  return lines;
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
    if (!ballot.accepted().empty()) break;
    if (!answer.compared && !answer.text.empty()) choices.push_back({.texts = {&answer.text}});
  }
  return choices;
}

// Of answers that nobody else gave. A text of some length is never said twice: that it differs from
// others says nothing.
bool WeightsTellApart(const std::vector<Vote>& votes, int counted) {
  constexpr size_t kShort = 64;
  int cast = 0;
  for (const Vote& vote : votes) {
    if (vote.answer.size() > kShort) return false;
    cast += vote.count;
  }
  return votes.size() > 1 && 2 * cast > counted;
}

}  // namespace

bool VoteIsSure(const Ballot& ballot, int counted, bool checked, VoteWeight weight) {
  if (checked) return !ballot.accepted().empty();
  if (ballot.lead() <= 0) return false;
  if (counted == 1 || ballot.Voters().front().size() > 1) return true;
  return weight != VoteWeight::kOne && WeightsTellApart(ballot.Votes(), counted);
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

int Different(const Ballot& ballot, const std::vector<CountedAnswer>& counted) {
  return static_cast<int>(Choices(ballot, counted).size());
}

bool CanSynthesise(const PromptProfile& profile) {
  return !profile.aggregate_text.empty() && profile.max_candidates > 0;
}

bool CanRefine(const PromptProfile& profile) {
  return !(profile.refine_text.empty() && profile.aggregate_text.empty()) &&
         !profile.candidate_line.empty() && profile.max_candidates > 0;
}

bool CanDecompose(const PromptProfile& splitter, const PromptProfile& joiner) {
  return !splitter.split_text.empty() && !joiner.join_text.empty() && !joiner.join_line.empty();
}

bool CanSelect(const PromptProfile& profile) {
  return !profile.select_text.empty() && profile.max_candidates > 0;
}

std::vector<Message> AggregationMessages(const PromptProfile& profile,
                                         const std::vector<Message>& messages,
                                         const std::vector<std::string>& candidates) {
  return Asked(profile.aggregate_text, messages, CandidateLines(profile, candidates));
}

std::vector<Message> RefineMessages(const PromptProfile& profile,
                                    const std::vector<Message>& messages,
                                    const std::vector<std::string>& drafts) {
  const bool own = !profile.refine_text.empty();
  return Asked(own ? profile.refine_text : profile.aggregate_text, messages,
               CandidateLines(profile, drafts));
}

std::vector<Message> SplitMessages(const PromptProfile& profile,
                                   const std::vector<Message>& messages) {
  return Asked(profile.split_text, messages, "");
}

std::vector<Message> PartMessages(const std::vector<Message>& messages, const std::string& part) {
  return WithLastTurn(messages, part);
}

std::vector<Message> JoinMessages(const PromptProfile& profile,
                                  const std::vector<Message>& messages,
                                  const std::vector<PartAnswer>& parts) {
  return Asked(profile.join_text, messages, PartLines(profile, parts));
}

std::string PartLines(const PromptProfile& profile, const std::vector<PartAnswer>& parts) {
  std::string lines;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) lines += '\n';
    lines += Fill(profile.join_line, {{"{index}", fmt::format("{}", i + 1)},
                                      {"{part}", parts[i].part},
                                      {"{answer}", parts[i].answer}});
  }
  return lines;
}

std::vector<Message> SelectionMessages(const PromptProfile& profile,
                                       const std::vector<Message>& messages,
                                       const std::vector<std::string>& candidates) {
  return Asked(profile.select_text, messages, CandidateLines(profile, candidates));
}

std::optional<size_t> Picked(std::string_view answer, size_t candidates) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  for (size_t i = 0; i < answer.size();) {
    if (!is_digit(answer[i])) {
      ++i;
      continue;
    }
    size_t number = 0;
    for (; i < answer.size() && is_digit(answer[i]); ++i) {
      number = std::min(candidates + 1, number * 10 + static_cast<size_t>(answer[i] - '0'));
    }
    if (number >= 1 && number <= candidates) return number - 1;
  }
  return std::nullopt;
}

}  // namespace conclave::router
