#include <algorithm>
#include <cmath>
#include <tuple>
#include <utility>

#include "router/contemplation/aggregation.h"
#include "tests/unit/router/contemplation/history.h"

namespace conclave::router {
namespace {

// The Beta rule's probability by the integral itself: the share of Beta(a + 1, b + 1) above 1/2.
double Certain(int a, int b) {
  double above = 0, all = 0;
  constexpr int kSteps = 20'000;
  for (int i = 0; i < kSteps; ++i) {
    const double x = (i + 0.5) / kSteps;
    const double density = std::pow(x, a) * std::pow(1 - x, b);
    all += density;
    if (x > 0.5) above += density;
  }
  return above / all;
}

}  // namespace

Expected Reckon(const Plan& plan, const World& world) {
  Expected expected;
  struct Ended {
    AgentId id{};
    int length = 0;
    std::string text;
    bool barred = false;
    int64_t start = 0;
    int64_t clock() const { return start + length; }
    std::optional<std::string> answer = {};  // None of those that the bar ended.
    bool accepted = false, agreed = false;
  };
  const auto whole = [&](AgentId id, int length) {
    return length == static_cast<int>(world.StreamOf(id).tokens.size());
  };
  std::vector<Ended> ends;
  for (const AgentRecipe& recipe : plan.agents) {
    const FakeEnd end = world.EndOf(recipe);
    ends.push_back({recipe.id, end.length,
                    world.StreamOf(recipe.id).Cut(recipe.id, 0, end.length).answer,
                    end.cause == Finish::kBar});
    if (const std::optional<Agreed> agreed = AgreedEnd(plan, world, recipe)) {
      ends.back().length = agreed->length;
      ends.back().text = agreed->text;
      ends.back().barred = false;
      ends.back().agreed = true;
    }
    if (ends.back().barred || plan.mode != Mode::kContemplating) continue;
    const AnswerByDefinition defined = Defined(plan, ends.back().text);
    ends.back().answer = defined.answer;
    ends.back().accepted = defined.accepted.value_or(false);
  }
  if (plan.mode != Mode::kContemplating) {
    return {.answer = ends[0].text,
            .incomplete = !whole(ends[0].id, ends[0].length),
            .method = std::nullopt,
            .accepted = std::nullopt,
            .kept = {{ends[0].id, ends[0].length}},
            .votes = {},
            .critical_path = ends[0].length};
  }
  // Each wave starts where the one before it was counted.
  std::vector<size_t> wave_ends;
  for (const int wave : plan.waves) {
    const auto first =
        ends.begin() + static_cast<ptrdiff_t>(wave_ends.empty() ? 0 : wave_ends.back());
    const int64_t start = first == ends.begin() ? 0 : std::prev(first)->clock();
    std::for_each(first, first + wave, [&](Ended& end) { end.start = start; });
    std::sort(first, first + wave, [](const Ended& a, const Ended& b) {
      return std::pair(a.length, a.id) < std::pair(b.length, b.id);
    });
    wave_ends.push_back(static_cast<size_t>(first + wave - ends.begin()));
  }
  std::vector<std::pair<Vote, const Ended*>> votes;  // With the first who gave it.
  const auto leads = [&] {
    std::stable_sort(votes.begin(), votes.end(),
                     [](const auto& a, const auto& b) { return a.first.weight > b.first.weight; });
    return votes.empty() ? 0
                         : votes[0].first.weight - (votes.size() < 2 ? 0 : votes[1].first.weight);
  };
  const auto by_count = [&] {  // Counts of the two first, and whether the first leads by weight.
    std::vector<Vote> sorted;
    for (const auto& vote : votes) sorted.push_back(vote.first);
    std::stable_sort(sorted.begin(), sorted.end(),
                     [](const Vote& a, const Vote& b) { return a.count > b.count; });
    sorted.resize(std::max<size_t>(2, sorted.size()));
    return std::tuple(sorted[0].count, sorted[1].count,
                      !votes.empty() && sorted[0].answer == votes[0].first.answer);
  };
  size_t counted = 0;
  std::vector<std::optional<std::string>> given;
  int64_t clock = 0;
  std::vector<std::pair<Vote, const Ended*>> in_order;
  const Ended* accepted = nullptr;  // The first.
  while (counted < ends.size()) {
    const Ended& end = ends[counted++];
    clock = end.clock();
    expected.kept[end.id] = end.length;
    if (end.accepted && accepted == nullptr) {
      accepted = &end;
      in_order.clear();
      for (auto& before : given) before.reset();
    }
    const bool rejected = accepted != nullptr && !end.accepted;
    const auto answer = rejected ? std::nullopt : end.answer;
    if (answer) {
      auto found = std::find_if(in_order.begin(), in_order.end(),
                                [&](const auto& vote) { return vote.first.answer == *answer; });
      if (found == in_order.end()) found = in_order.insert(found, {Vote{*answer, 0, 0}, &end});
      found->first.count += 1;
      const double weight = WeightByDefinition(plan, world, end.id, end.length);
      found->first.weight += weight;
    }
    votes = in_order;
    if (!end.barred) given.push_back(answer);
    const int to_come = static_cast<int>(ends.size() - counted);
    const double lead = leads();
    const auto [first, second, heaviest] = by_count();
    const size_t size = static_cast<size_t>(plan.stop.votes);
    bool unanimous =
        !given.empty() && size > 0 && given.size() % size == 0 && given.back().has_value();
    for (size_t i = 1; unanimous && i < size; ++i)
      unanimous = given[given.size() - 1 - i] == given.back();
    const bool known = !plan.checker || accepted != nullptr || plan.stop.rule == StopRule::kFirst;
    const bool stop =
        !known                                  ? false
        : plan.stop.rule == StopRule::kAccepted ? true
        : plan.stop.rule == StopRule::kSettled  ? first > 0 && lead > to_come
        : plan.stop.rule == StopRule::kBeta
            ? first > 0 && heaviest && lead > 0 && Certain(first, second) >= plan.stop.certainty
        : plan.stop.rule == StopRule::kWindow ? unanimous
        : plan.stop.rule == StopRule::kFirst  ? given.size() >= size
        : plan.stop.rule == StopRule::kQuorum ? first >= plan.stop.votes
                                              : false;
    if (stop) break;
    // Another wave must be worth its price; what Certain is off by decides nothing.
    constexpr double kOff = 1e-6;
    const bool wave_over =
        std::find(wave_ends.begin(), wave_ends.end(), counted) != wave_ends.end();
    const double worth = 2 * (1 - Certain(first, second)) + kOff;
    if (wave_over && worth < plan.price * static_cast<double>(counted)) break;
  }
  // The rest of the wave is cut there; those behind it never were.
  const size_t entered =
      *std::find_if(wave_ends.begin(), wave_ends.end(), [&](size_t end) { return end >= counted; });
  for (size_t i = counted; i < entered; ++i) {
    const auto kept = static_cast<int>(clock - ends[i].start);
    if (kept > 0) expected.kept[ends[i].id] = kept;
  }
  const double lead = leads();
  for (const auto& vote : votes) expected.votes.push_back(vote.first);
  // Those that the bar ended are heard only when there is no other.
  std::vector<const Ended*> heard;
  for (size_t i = 0; i < counted; ++i) {
    if (!ends[i].barred) heard.push_back(&ends[i]);
  }
  for (size_t i = 0; given.empty() && i < counted; ++i) heard.push_back(&ends[i]);

  const auto trimmed = [](std::string text) {
    while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
    return text;
  };
  size_t candidates = 0;
  int64_t kept = 0;
  for (const Ended* end : heard) {
    if (trimmed(end->text).empty() || (accepted != nullptr && !end->accepted)) continue;
    ++candidates;
  }
  for (const auto& [id, tokens] : expected.kept) kept += tokens;
  const bool weighted = plan.vote_weight != VoteWeight::kOne;
  const bool short_answers = std::all_of(
      votes.begin(), votes.end(), [](const auto& vote) { return vote.first.answer.size() <= 64; });
  size_t cast = 0;
  for (const auto& vote : votes) cast += static_cast<size_t>(vote.first.count);
  const bool sure = plan.checker ? accepted != nullptr
                                 : lead > 0 && (votes[0].first.count > 1 || heard.size() == 1 ||
                                                (weighted && votes.size() > 1 && short_answers &&
                                                 2 * cast > heard.size()));
  const bool by_itself = plan.request.aggregation == Aggregation::kVote ||
                         plan.request.aggregation == Aggregation::kWeightedVote ||
                         (plan.request.aggregation != Aggregation::kSynthesise && sure &&
                          plan.request.aggregation != Aggregation::kSelect);
  const size_t fewest = plan.request.aggregation == Aggregation::kSynthesise ? 1 : 2;
  bool possible = !plan.pass_profile().aggregate_text.empty() && candidates >= fewest;
  const bool selects = plan.request.aggregation == Aggregation::kSelect;
  if (selects) {
    size_t uncompared = 0;
    for (const Ended* end : heard) {
      uncompared += accepted == nullptr && !end->answer && !trimmed(end->text).empty() ? 1 : 0;
    }
    possible = !plan.pass_profile().select_text.empty() && expected.votes.size() + uncompared > 1;
  }
  expected.critical_path = clock;
  if (!by_itself && possible) {
    expected.incomplete = true;
    const auto left = std::min<int64_t>(plan.synthesis.grant, plan.total_tokens - kept);
    if (left >= 1) {
      const AgentId id = plan.synthesis.id;
      const int length =
          std::min(static_cast<int>(left), static_cast<int>(world.StreamOf(id).tokens.size()));
      expected.kept[id] = length;
      expected.answer = world.StreamOf(id).Cut(id, 0, length).answer;
      if (selects) {
        expected.incomplete = false;
        expected.critical_path = clock + length;
        Ballot ballot;
        std::vector<CountedAnswer> said;
        for (size_t i = 0; i < counted; ++i) {
          if (ends[i].barred) continue;
          ballot.Add(ends[i].id, ends[i].answer,
                     WeightByDefinition(plan, world, ends[i].id, ends[i].length), ends[i].accepted);
        }
        for (const Ended* end : heard) {
          said.push_back({end->id, trimmed(end->text), end->answer.has_value()});
        }
        const std::vector<std::string> shown =
            Candidates(ballot, said, plan.pass_profile().max_candidates);
        const size_t at = expected.answer.find_first_of("123456789");
        const size_t picked = at == std::string::npos ? 0 : expected.answer[at] - '0';
        for (const Ended* end : heard) {
          if (picked < 1 || picked > shown.size() || trimmed(end->text) != shown[picked - 1])
            continue;
          expected.answer = shown[picked - 1];
          expected.method = Aggregation::kSelect;
          expected.accepted = Defined(plan, end->text).accepted;
          expected.incomplete = !end->agreed && !whole(end->id, end->length);
          return expected;
        }
      } else if (!expected.answer.empty()) {
        expected.method = Aggregation::kSynthesise;
        expected.accepted = Defined(plan, expected.answer).accepted;
        expected.incomplete = !whole(id, length);
        expected.critical_path = clock + length;
        return expected;
      }
    }
  }
  expected.method = weighted ? Aggregation::kWeightedVote : Aggregation::kVote;
  const Ended* spokesman = votes.empty() ? nullptr : votes[0].second;
  const bool checks = plan.request.aggregation == Aggregation::kAuto ||
                      plan.request.aggregation == Aggregation::kCheck;
  if (checks && accepted != nullptr) {
    expected.method = Aggregation::kCheck;
    spokesman = accepted;
  }
  for (const Ended* end : heard) {
    if (spokesman == nullptr && !trimmed(end->text).empty()) spokesman = end;
  }
  if (spokesman == nullptr) spokesman = heard[0];
  expected.answer = trimmed(spokesman->text);
  expected.accepted = Defined(plan, spokesman->text).accepted;
  if (!spokesman->agreed && !whole(spokesman->id, spokesman->length)) expected.incomplete = true;
  return expected;
}

}  // namespace conclave::router
