#include "tests/unit/router/contemplation/history.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <tuple>
#include <utility>

#include "common/status.h"

namespace conclave::router {
namespace {

constexpr int kMostTurns = 200'000;

// A number of milliseconds, or one that never matters.
absl::Duration Wait(Random& random, int percent_short, int most_ms) {
  return random.Chance(percent_short) ? absl::Milliseconds(random.Between(1, most_ms))
                                      : absl::Minutes(5);
}

void DrawRequest(Random& random, Scenario& scenario) {
  Request& request = scenario.request;
  request.id = "r";
  request.messages = {{.role = Role::kUser, .parts = {{.text = "why?"}}}};
  const int mode = random.Below(10);
  request.mode = mode == 0 ? Mode::kInstant : mode == 1 ? Mode::kThinking : Mode::kContemplating;
  if (request.mode == Mode::kContemplating) {
    const int most = random.Chance(2) ? 64 : random.Between(1, 9);
    request.max_agents = most;
    request.min_agents = random.Chance(50) ? 1 : random.Between(1, most);
  }
  request.stop_rule =
      random.Chance(40) ? StopRule::kSettled : static_cast<StopRule>(random.Below(6));
  if (request.stop_rule == StopRule::kBeta && random.Chance(50))
    request.stop_certainty = 0.5503 + 0.01 * random.Below(40);
  if (request.stop_rule > StopRule::kBeta && random.Chance(50))
    request.stop_votes = random.Between(1, 6);
  request.aggregation = static_cast<Aggregation>(random.Below(3));
  request.thinking_tokens = random.Between(3, 30);
  request.answer_tokens = random.Between(3, 20);
  if (random.Chance(20)) request.total_tokens = random.Between(30, 400);
  request.seed = random.Next();
  request.on_loss = random.Chance(70)   ? OnLoss::kResume
                    : random.Chance(70) ? OnLoss::kContinue
                                        : OnLoss::kFail;
  request.include = {.thinking = random.Chance(50),
                     .agent_answers = random.Chance(50),
                     .tokens = random.Chance(50),
                     .votes = random.Chance(50)};
}

void DrawModel(Random& random, ModelDescription& model) {
  model.name = "m";
  model.fingerprint = "f";
  model.max_positions = 4096;
  model.profile.thinks = true;
  model.profile.answer_key = {.kind = AnswerKeySpec::Kind::kAnswerLine, .argument = {}};
  if (random.Chance(90)) {
    model.profile.aggregate_text = "{question}\n{candidates}";
    model.profile.candidate_line = "{index}. {answer}";
  }
  model.profile.end_thinking_tokens = 2;
}

void DrawWeather(Random& random, Scenario& scenario) {
  scenario.slow_client = random.Chance(50) ? random.Below(100) : 0;
  scenario.slow_clock = random.Below(60);
  scenario.chaos.hasty_cancel = random.Below(101);
  scenario.chaos.coalesce = random.Below(90);
  scenario.chaos.tells_credits = random.Chance(60);
}

// Four kinds of days: calm ones, on which nothing is decided, and three with something wrong.
void DrawTrouble(Random& random, Scenario& scenario) {
  Limits& limits = scenario.limits;
  Chaos& chaos = scenario.chaos;
  const int agents = scenario.request.max_agents.value_or(1);
  const int day = random.Below(4);
  scenario.calm = day == 0;
  if (scenario.calm) return;
  limits.deadline = Wait(random, 40, random.Chance(70) ? 15 : 200);
  limits.straggler_patience = Wait(random, 30, 40);
  if (scenario.request.mode == Mode::kContemplating && random.Chance(30)) {
    scenario.request.patience =
        std::min(limits.straggler_patience, absl::Milliseconds(random.Between(1, 10)));
  }
  chaos.slow = random.Chance(25) ? random.Between(10, 60) : 0;
  chaos.tide = random.Chance(30) ? random.Between(1, 50) : 0;
  chaos.silent = random.Chance(10) ? random.Between(1, 10) : 0;
  limits.max_lead = random.Chance(20) ? random.Between(1, 20) : 0;
  limits.receipt_wait = Wait(random, 30, 10);
  limits.place_wait = absl::Milliseconds(random.Between(1, 10));
  if (day != 2) {  // Little room.
    chaos.least_room = random.Between(1, agents);
    chaos.most_room = agents + random.Below(2);
    chaos.least_pool = random.Chance(30) ? random.Between(1, agents) : 64;
    chaos.refuse = random.Chance(50) ? random.Below(30) : 0;
    chaos.no_place = random.Chance(10) ? random.Between(1, 30) : 0;
    chaos.odd_width = random.Chance(10) ? random.Between(1, 20) : 0;
    limits.narrow_wait = Wait(random, 50, 60);
  }
  if (day != 1) {  // Losses.
    scenario.lose = random.Chance(15) ? random.Between(30, 300) : random.Between(5, 15);
    chaos.broken = random.Chance(20) ? random.Between(1, 10) : 0;
    chaos.foreign = random.Chance(10) ? random.Between(1, 30) : 0;
    limits.resume_wait = Wait(random, 40, 40);
  }
  if (random.Chance(20)) scenario.stop_at = random.Below(random.Chance(30) ? 15 : 200);
  scenario.leave = random.Chance(5) ? 1 : 0;
}

}  // namespace

Scenario MakeScenario(uint64_t seed) {
  Random random(seed);
  random.Next();
  Scenario scenario;
  scenario.seed = seed;
  DrawRequest(random, scenario);
  DrawModel(random, scenario.model);
  scenario.limits.deadline = scenario.limits.narrow_wait = scenario.limits.straggler_patience =
      scenario.limits.resume_wait = scenario.limits.receipt_wait = absl::Minutes(5);
  scenario.limits.retry_wait = absl::Milliseconds(random.Between(1, 5));
  DrawWeather(random, scenario);
  DrawTrouble(random, scenario);
  scenario.world.seed = scenario.request.seed;
  scenario.world.longest = random.Between(1, 40);
  scenario.world.answers = random.Between(1, 6);
  scenario.world.mute = random.Chance(30) ? random.Below(101) : 5;
  return scenario;
}

Scenario MakeWeightedScenario(uint64_t seed) {
  Scenario scenario = MakeScenario(seed);
  if (scenario.request.mode != Mode::kContemplating) return scenario;
  Random random(seed ^ 0xc0ffee);
  Request& request = scenario.request;
  if (random.Chance(80)) request.aggregation = Aggregation::kWeightedVote;
  if (request.aggregation == Aggregation::kWeightedVote && random.Chance(80))
    request.vote_weight = static_cast<VoteWeight>(random.Between(1, 3));
  if (random.Chance(70)) request.confidence_window = random.Between(1, 12);
  if (random.Chance(60)) request.confidence_bar = 0.25 * random.Between(1, 48);
  return scenario;
}

void AddWaves(Scenario& scenario) {
  Request& request = scenario.request;
  if (request.mode != Mode::kContemplating) return;
  Random random(scenario.seed ^ 0x3a7e5);
  random.Next();
  const int most = std::max(*request.max_agents, random.Between(2, 16));
  request.max_agents = most;
  request.wave = random.Between(1, random.Chance(50) ? std::min(most, 4) : most);
  if (random.Chance(50)) request.min_agents = 1;
}

Scenario MakeReplay(const Scenario& scenario, const Receipt& receipt, uint64_t weather) {
  Random random(weather);
  Scenario replay = scenario;
  replay.seed = weather;
  replay.limits = Limits{};
  replay.limits.deadline = replay.limits.resume_wait = absl::Minutes(5);
  replay.chaos = Chaos{};
  replay.leave = replay.lose = 0;
  replay.stop_at = random.Chance(10) ? random.Below(50) : -1;  // In vain.
  DrawWeather(random, replay);
  replay.chaos.slow = random.Chance(25) ? random.Between(10, 60) : 0;
  replay.chaos.tide = random.Chance(30) ? random.Between(1, 50) : 0;
  if (random.Chance(50)) {
    replay.chaos.least_room = 1;
    replay.chaos.refuse = random.Below(30);
  }
  if (replay.request.on_loss != OnLoss::kFail && random.Chance(30)) {
    replay.lose = 5;
    replay.chaos.broken = random.Below(4);
  }
  replay.request.replay = ReplaySpec{.seed = receipt.seed,
                                     .time_of_day = receipt.time_of_day,
                                     .fingerprint = receipt.fingerprint,
                                     .decision_version = receipt.decision_version,
                                     .decisions = receipt.decisions,
                                     .result_hash = receipt.result_hash};
  return replay;
}

Outcome RunHistory(const Scenario& scenario, const Plan& plan) {
  Random random(scenario.seed ^ 0x5bd1e995u);
  FakeFleet fleet(scenario.world, scenario.chaos, random.Next());
  Watcher watcher(plan, scenario.world);
  Contemplation contemplation(plan, scenario.limits);
  absl::Time now = absl::FromUnixSeconds(1'000);
  Outcome outcome;
  const auto feed = [&](decltype(Event::what) what) {
    ++outcome.events;
    const auto commands = contemplation.On({.at = now, .what = std::move(what)});
    watcher.See(commands, now);
    for (const Command& command : commands) fleet.Obey(command);
  };
  feed(Started{});
  for (int turn = 0; !watcher.done() && !testing::Test::HasFatalFailure(); ++turn) {
    if (turn == kMostTurns) {
      ADD_FAILURE() << "the history does not end";
      break;
    }
    if (fleet.Idle()) now = std::max(now, watcher.wake());
    if (now == absl::InfiniteFuture()) {
      ADD_FAILURE() << "nothing will happen any more";
      break;
    }
    if (random.Chance(100 - scenario.slow_clock)) now += absl::Microseconds(random.Below(400));
    const bool late = random.Chance(20);
    if (now >= watcher.wake() && !late) feed(Tick{});
    if (watcher.done()) break;
    fleet.Work();
    if (auto event = fleet.Deliver()) feed(*std::move(event));
    if (!watcher.done() && fleet.serving() && random.Below(1000) < scenario.lose) fleet.Lose();
    if (!watcher.done() && turn == scenario.stop_at) feed(StopRequested{});
    if (!watcher.done() && random.Below(1000) < scenario.leave) feed(ClientGone{});
    if (!random.Chance(scenario.slow_client)) watcher.Read();
  }
  if (watcher.done()) {
    EXPECT_FALSE(fleet.open()) << "an attempt outlives its request";
    for (const auto& after : {Event{.at = now, .what = Tick{}},
                              Event{.at = now + absl::Hours(1), .what = ClientGone{}}}) {
      EXPECT_TRUE(contemplation.On(after).empty()) << "something came after the end";
    }
    watcher.Close(fleet);
  }
  outcome.status = watcher.status();
  outcome.lost_any = fleet.lost_any();
  outcome.completed = watcher.completed();
  return outcome;
}

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

double WeightByDefinition(const Plan& plan, const World& world, AgentId agent, int kept) {
  if (plan.vote_weight == VoteWeight::kOne) return 1;
  std::vector<double> chosen, top;
  for (int i = 0; i < kept; ++i) {
    const TokenEvent& token = world.StreamOf(agent).tokens[static_cast<size_t>(i)].token;
    if (token.kind == TokenKind::kForced) continue;
    chosen.push_back(token.logprob);
    top.push_back(-double{token.top_logprob_mean});
  }
  const auto mean = [](auto first, auto last) {
    return first == last ? 0
                         : std::accumulate(first, last, 0.0) / static_cast<double>(last - first);
  };
  if (plan.vote_weight == VoteWeight::kMeanProbability) {
    return chosen.empty() ? std::ldexp(1, -30) : std::exp(mean(chosen.begin(), chosen.end()));
  }
  double confidence = mean(top.begin(), top.end());
  const int window = plan.confidence_window, drawn = static_cast<int>(top.size());
  if (plan.vote_weight == VoteWeight::kTop20LowestWindow && drawn >= window) {
    confidence = std::numeric_limits<double>::infinity();
    for (auto first = top.begin(); top.end() - first >= window; ++first) {
      confidence = std::min(confidence, mean(first, first + window));
    }
  }
  return std::max(std::ldexp(1, -30), confidence / 32);
}

Expected Reckon(const Plan& plan, const World& world) {
  Expected expected;
  struct Ended {
    AgentId id{};
    int length = 0;
    std::string text;
    bool barred = false;
    int64_t start = 0;
    int64_t clock() const { return start + length; }
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
  }
  if (plan.mode != Mode::kContemplating) {
    return {.answer = ends[0].text,
            .incomplete = !whole(ends[0].id, ends[0].length),
            .method = std::nullopt,
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
  while (counted < ends.size()) {
    const Ended& end = ends[counted++];
    clock = end.clock();
    expected.kept[end.id] = end.length;
    const auto answer = end.barred ? std::nullopt : plan.answer_key->Extract(end.text);
    if (answer) {
      auto found = std::find_if(in_order.begin(), in_order.end(),
                                [&](const auto& vote) { return vote.first.answer == *answer; });
      if (found == in_order.end()) found = in_order.insert(found, {Vote{*answer, 0, 0}, &end});
      found->first.count += 1;
      const double weight = WeightByDefinition(plan, world, end.id, end.length);
      found->first.weight += std::ldexp(std::round(std::ldexp(weight, 30)), -30);
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
    const bool stop =
        plan.stop.rule == StopRule::kSettled ? first > 0 && lead > to_come
        : plan.stop.rule == StopRule::kBeta
            ? first > 0 && heaviest && lead > 0 && Certain(first, second) >= plan.stop.certainty
        : plan.stop.rule == StopRule::kWindow ? unanimous
        : plan.stop.rule == StopRule::kFirst  ? given.size() >= size
        : plan.stop.rule == StopRule::kQuorum ? first >= plan.stop.votes
                                              : false;
    if (stop) break;
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
  for (const Ended* end : heard) candidates += trimmed(end->text).empty() ? 0 : 1;
  for (const auto& [id, tokens] : expected.kept) kept += tokens;
  const bool sure = lead > 0 && (votes[0].first.count > 1 || heard.size() == 1);
  const bool weighted = plan.request.aggregation == Aggregation::kWeightedVote;
  const bool by_itself = plan.request.aggregation == Aggregation::kVote || weighted ||
                         (plan.request.aggregation == Aggregation::kAuto && sure);
  const size_t fewest = plan.request.aggregation == Aggregation::kAuto ? 2 : 1;
  const bool possible = !plan.profile.aggregate_text.empty() && candidates >= fewest;
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
      if (!expected.answer.empty()) {
        expected.method = Aggregation::kSynthesise;
        expected.incomplete = !whole(id, length);
        expected.critical_path = clock + length;
        return expected;
      }
    }
  }
  expected.method = weighted ? Aggregation::kWeightedVote : Aggregation::kVote;
  const Ended* spokesman = votes.empty() ? nullptr : votes[0].second;
  for (const Ended* end : heard) {
    if (spokesman == nullptr && !trimmed(end->text).empty()) spokesman = end;
  }
  if (spokesman == nullptr) spokesman = heard[0];
  expected.answer = trimmed(spokesman->text);
  if (!whole(spokesman->id, spokesman->length)) expected.incomplete = true;
  return expected;
}

}  // namespace conclave::router
