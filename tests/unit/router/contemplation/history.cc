#include "tests/unit/router/contemplation/history.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "common/status.h"

namespace conclave::router {
namespace {

constexpr int kMostTurns = 1'000'000;  // A slow replay of many waves took 200,000.

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
  model.name = kAgentsModel;
  model.fingerprint = "f";
  model.max_positions = 4096;
  model.decision_version = kDecisionVersion;
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
  chaos.busy = random.Chance(30) ? random.Between(1, 100) : 0;
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
  if (scenario.request.mode != Mode::kInstant)
    scenario.world.forced_from = *scenario.request.thinking_tokens;
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
    request.vote_weight = static_cast<VoteWeight>(random.Between(1, 4));
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
  if (random.Chance(60)) return;
  request.strategy = Strategy::kAuto;
  request.effort = static_cast<Effort>(random.Below(3));
  const int rule = random.Below(10);
  if (rule < 5) request.stop_rule = StopRule::kQuorum;
  if (rule == 5 || rule == 6) request.stop_rule = StopRule::kBeta;
  request.stop_certainty.reset();
  request.stop_votes.reset();
}

void AddChecker(Scenario& scenario) {
  // Of what agents say: "Answer: 10" and up, found by the model's key; mute ones' whole words; one
  // that the key's find is never, but the whole is; nothing.
  static constexpr const char* kPatterns[] = {"1[0-1]", "1[024]|I do not know\\.",
                                              "(?s).*Answer: 1[0-2]", "no"};
  if (scenario.request.mode != Mode::kContemplating) return;
  Random random(scenario.seed ^ 0xdecade);
  Request& request = scenario.request;
  request.checker =
      CheckerSpec{CheckerSpec::Kind::kRegex, kPatterns[random.Below(std::size(kPatterns))], {}};
  if (random.Chance(30)) request.answer_key = scenario.model.profile.answer_key;
  if (random.Chance(50)) request.stop_rule = StopRule::kAccepted;
  if (request.stop_rule == StopRule::kAccepted) request.stop_votes.reset();
  if (random.Chance(30)) request.aggregation = Aggregation::kCheck;
  if (random.Chance(10)) request.aggregation = Aggregation::kWeightedVote;
}

void AddSelection(Scenario& scenario) {
  if (scenario.request.mode != Mode::kContemplating) return;
  scenario.request.aggregation = Aggregation::kSelect;
  if (scenario.seed % 7 > 0) {
    scenario.model.profile.select_text = "{candidates}\n{question}";
    scenario.model.profile.candidate_line = "{index}. {answer}";
  }
  scenario.world.picks = true;
}

AnswerByDefinition Defined(const Plan& plan, const std::string& text) {
  AnswerByDefinition defined;
  const auto accepts = [&](const std::string& answer) {
    return plan.checker->Check(answer).accepted;
  };
  const std::optional<std::string> found = plan.answer_key->Find(text);
  defined.answer = plan.answer_key->Extract(text);
  if (!plan.checker) return defined;
  if (found) defined.accepted = accepts(*found);
  const bool blank = text.find_first_not_of(" \n") == std::string::npos;
  if (defined.accepted.value_or(false) || plan.request.answer_key || blank) return defined;
  defined.accepted = accepts(text);
  if (*defined.accepted) defined.answer = NormaliseAnswer(text);
  return defined;
}

void AddProbes(Scenario& scenario) {
  if (scenario.request.mode != Mode::kContemplating) return;
  Random random(scenario.seed ^ 0xfeed);
  random.Next();
  scenario.request.probes = ProbeChoice{
      .every = random.Between(3, 8), .answer_tokens = std::nullopt, .agree = std::nullopt};
  if (random.Chance(80)) scenario.request.probes->agree = random.Between(2, 4);
}

void AddRounds(Scenario& scenario) {
  Request& request = scenario.request;
  if (request.mode != Mode::kContemplating) return;
  Random random(scenario.seed ^ 0x9021d5);
  random.Next();
  PromptProfile& profile = scenario.model.profile;
  if (random.Chance(50)) profile.refine_text = "{question} after {candidates}";
  if (random.Chance(95)) {
    profile.split_text = "split {question}";
    profile.join_text = "join {question} {candidates}";
    profile.join_line = "{index} {part} {answer}";
  }
  if (random.Chance(50)) request.max_agents = random.Between(2, 9);
  request.max_agents = std::min(*request.max_agents, 9);
  if (random.Chance(50)) request.min_agents = 1;
  request.min_agents = std::min(*request.min_agents, *request.max_agents);
  request.strategy = random.Chance(50) ? Strategy::kDecompose : Strategy::kRefine;
  if (random.Chance(20)) request.digest_bytes = 256;
  if (request.strategy != Strategy::kRefine) return;
  if (random.Chance(70)) request.rounds = random.Between(1, 4);
  if (random.Chance(40)) request.drafts = random.Between(1, *request.max_agents);
}

void AddAggregator(Scenario& scenario) {
  Request& request = scenario.request;
  if (request.mode != Mode::kContemplating) return;
  Random random(scenario.seed ^ 0xa99e9);
  random.Next();
  scenario.aggregator = scenario.model;
  scenario.aggregator->name = request.aggregator_model = kOtherModel;
  scenario.aggregator->fingerprint = "x";
  PromptProfile& profile = scenario.aggregator->profile;
  profile.max_candidates = random.Between(2, 9);
  profile.end_thinking_tokens = random.Below(9);
  if (random.Chance(10)) profile.aggregate_text.clear();
  // Its own words are not asked for.
  if (random.Chance(50)) scenario.model.profile.aggregate_text.clear();
  if (random.Chance(50)) scenario.model.profile.join_text.clear();
  if (random.Chance(50)) scenario.model.profile.select_text.clear();
  scenario.chaos.no_other = !scenario.calm && random.Chance(15);
  if (!scenario.chaos.no_other) return;
  // One is looked for again and again, as long as the patience lasts.
  absl::Duration& patience = scenario.limits.straggler_patience;
  patience = std::min(patience, absl::Milliseconds(random.Between(1, 40)));
  if (request.patience) request.patience = std::min(*request.patience, patience);
}

void AddModels(Scenario& scenario) {
  Request& request = scenario.request;
  if (request.mode != Mode::kContemplating) return;
  Random random(scenario.seed ^ 0x3a0de15);
  random.Next();
  for (int i = random.Between(1, 3); i > 0; --i) {
    ModelDescription& other = scenario.others.emplace_back(scenario.model);
    other.name = fmt::format("{}{}", kAgentsModel, i);
    other.fingerprint = fmt::format("f{}", i);
    other.profile.end_thinking_tokens = random.Below(3);
    other.profile.max_candidates = random.Between(1, 9);
    if (random.Chance(10)) other.profile.refine_text.clear();
  }
  // A part of a gang is refused for good while the others run.
  if (!scenario.calm && random.Chance(50)) scenario.chaos.odd_width = random.Between(10, 60);
  request.agent_models = {kAgentsModel};
  for (int i = random.Between(1, 5); i > 0; --i) {
    const int which = random.Below(static_cast<int>(scenario.others.size()) + 1);
    request.agent_models.push_back(
        which == 0 ? kAgentsModel : scenario.others[static_cast<size_t>(which) - 1].name);
  }
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
                                     .aggregator_fingerprint = receipt.aggregator_fingerprint,
                                     .agent_fingerprints = receipt.agent_fingerprints,
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
  outcome.told = fleet.told();
  outcome.completed = watcher.completed();
  return outcome;
}

bool SameVote(const Vote& a, const Vote& b) {
  return a.answer == b.answer && a.count == b.count &&
         std::abs(a.weight - b.weight) <= 1e-12 * std::max(a.weight, b.weight);
}

namespace {

double QuantityByDefinition(const Plan& plan, const World& world, AgentId agent, int kept) {
  if (plan.vote_weight == VoteWeight::kOne) return 1;
  std::vector<double> chosen, top;
  for (int i = 0; i < kept; ++i) {
    const TokenEvent& token = world.StreamOf(agent).tokens[static_cast<size_t>(i)].token;
    if (token.kind == TokenKind::kForced) continue;
    chosen.push_back(token.logprob);
    top.push_back(-double{token.top_logprob_mean});
  }
  // Of values in units of 2^-24, so that it is the same in any order.
  const auto mean = [](auto first, auto last) {
    int64_t sum = 0;
    for (auto at = first; at != last; ++at) sum += std::llround(std::ldexp(*at, 24));
    return first == last
               ? 0
               : std::ldexp(static_cast<double>(sum), -24) / static_cast<double>(last - first);
  };
  const bool trace = plan.vote_weight == VoteWeight::kTraceProbability;
  if (trace || plan.vote_weight == VoteWeight::kMeanProbability) {
    const double power = trace ? 512 : 1;
    return chosen.empty()
               ? 0x1p-1000
               : std::max(0x1p-1000, std::exp(power * mean(chosen.begin(), chosen.end())));
  }
  double confidence = mean(top.begin(), top.end());
  const int window = plan.confidence_window, drawn = static_cast<int>(top.size());
  if (plan.vote_weight == VoteWeight::kTop20LowestWindow && drawn >= window) {
    confidence = std::numeric_limits<double>::infinity();
    for (auto first = top.begin(); top.end() - first >= window; ++first) {
      confidence = std::min(confidence, mean(first, first + window));
    }
  }
  return std::max(0x1p-1000, confidence / 32);
}

}  // namespace

double WeightByDefinition(const Plan& plan, const World& world, AgentId agent, int kept) {
  int exponent = 0;
  const double fraction = std::frexp(QuantityByDefinition(plan, world, agent, kept), &exponent);
  return std::ldexp(std::round(fraction * (1 << 24)), exponent - 24);
}

std::optional<Agreed> AgreedEnd(const Plan& plan, const World& world, const AgentRecipe& recipe) {
  const int own = world.EndOf(recipe).length;
  std::vector<std::optional<std::string>> answers;
  for (int at = 1; plan.probes_agree > 0 && at + recipe.probe_every + 1 < own; ++at) {
    if (!world.AsksAt(recipe, at)) continue;
    const std::string text = world.Ask(recipe.id, at).answer;
    answers.push_back(plan.answer_key->Extract(text));
    const auto last = answers.rbegin();
    const auto equal = std::find_if(last, answers.rend(),
                                    [&](const auto& answer) { return answer != answers.back(); });
    if (answers.back() && equal - last >= plan.probes_agree) {
      return Agreed{.length = at + recipe.probe_every + 1, .text = text};
    }
  }
  return std::nullopt;
}

}  // namespace conclave::router
