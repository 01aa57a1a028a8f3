#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <set>
#include <string>

#include "common/status.h"
#include "tests/unit/router/contemplation/history.h"

namespace conclave::router {
namespace {

// Histories in all; the environment's CONCLAVE_SIMULATIONS asks for more.
int Histories() {
  const char* wanted = std::getenv("CONCLAVE_SIMULATIONS");
  return wanted == nullptr ? 20'000 : std::max(1, std::atoi(wanted));
}

// How often a kind of decision was taken.
struct Taken {
  int histories = 0, first = 0, again = 0;  // Histories with one; in first runs; in replays.
};

struct Totals {
  int histories = 0, undisturbed = 0, decided = 0, replayed = 0, refused = 0;
  int weighted = 0, overturned = 0, barred = 0, agreed = 0;
  int in_waves = 0, later_waves = 0;  // Requests; those in which a second wave entered.
  int unasked = 0;                    // Those whose last wave nobody needed.
  int priced = 0;                     // Those in which another wave was too dear.
  int accepted = 0, rejected = 0;     // Answers, by a checker.
  int picked = 0;                     // Answers, by a pass.
  int refined = 0, fell_back = 0;     // Requests with a later round; whose last one was silent.
  int joined = 0, in_parts = 0;       // Split questions: joined; answered by parts.
  int not_split = 0;                  // Asked whole after all.
  int moved = 0, stayed = 0;          // Passes of another model; those that it never began.
  int mixed = 0;                      // Requests whose agents were of several models.
  int told = 0;                       // Agents of replays with words of their own.
  int resumed = 0;                    // Requests whose agents were resumed.
  std::array<Taken, 5> taken;         // By kind.
  int64_t events = 0;
  std::map<std::string, int> ends;
};

std::map<AgentId, int> KeptOf(const Receipt& receipt) {
  std::map<AgentId, int> kept;
  for (const AgentUsage& usage : receipt.agents) {
    if (usage.kept > 0) kept[usage.agent] = usage.kept;
  }
  return kept;
}

void ExpectReckoned(const Completed& completed, const Plan& plan, const World& world) {
  const Expected expected = Reckon(plan, world);
  EXPECT_EQ(completed.answer, expected.answer);
  EXPECT_EQ(completed.incomplete, expected.incomplete);
  EXPECT_EQ(completed.method, expected.method);
  EXPECT_EQ(completed.accepted, expected.accepted);
  EXPECT_EQ(KeptOf(completed.receipt), expected.kept);
  EXPECT_EQ(completed.receipt.critical_path_tokens, expected.critical_path);
  if (plan.mode == Mode::kContemplating) {
    EXPECT_TRUE(std::ranges::equal(completed.receipt.votes, expected.votes, SameVote));
  }
}

void ExpectReplayed(const Scenario& scenario, const Outcome& first, uint64_t weather,
                    Totals& totals) {
  const Completed& completed = *first.completed;
  const Scenario again = MakeReplay(scenario, completed.receipt, weather);
  const auto plan = again.MakePlan();
  ASSERT_TRUE(plan.ok()) << plan.status();
  Outcome outcome = RunHistory(again, *plan);
  totals.events += outcome.events;
  if (outcome.lost_any && absl::IsUnavailable(outcome.status)) {
    // It lost its groups for good. Without losses it must come to the end.
    Scenario quiet = again;
    quiet.lose = quiet.chaos.broken = 0;
    outcome = RunHistory(quiet, *plan);
  }
  ASSERT_TRUE(outcome.status.ok()) << outcome.status;
  ASSERT_TRUE(outcome.completed);
  EXPECT_EQ(outcome.completed->answer, completed.answer);
  EXPECT_EQ(outcome.completed->incomplete, completed.incomplete);
  EXPECT_EQ(outcome.completed->method, completed.method);
  EXPECT_EQ(outcome.completed->accepted, completed.accepted);
  EXPECT_EQ(outcome.completed->receipt.result_hash, completed.receipt.result_hash);
  EXPECT_EQ(outcome.completed->receipt.votes, completed.receipt.votes);
  EXPECT_EQ(KeptOf(outcome.completed->receipt), KeptOf(completed.receipt));
  EXPECT_EQ(outcome.completed->receipt.decisions, completed.receipt.decisions);
  EXPECT_EQ(outcome.completed->receipt.critical_path_tokens,
            completed.receipt.critical_path_tokens);
  for (const auto& [agent, told] : outcome.told) {
    const auto before = first.told.find(agent);
    if (before == first.told.end()) continue;
    EXPECT_EQ(told, before->second) << "agent " << static_cast<uint32_t>(agent);
    totals.told += told.empty() ? 0 : 1;
  }
  ++totals.replayed;
  for (const Decision& decision : outcome.completed->receipt.decisions) {
    ++totals.taken[static_cast<size_t>(decision.kind)].again;
  }
}

void CountTaken(const std::vector<Decision>& decisions, Totals& totals) {
  std::set<Decision::Kind> kinds;
  for (const Decision& decision : decisions) {
    Taken& taken = totals.taken[static_cast<size_t>(decision.kind)];
    ++taken.first;
    if (kinds.insert(decision.kind).second) ++taken.histories;
  }
}

// What a history may end with, besides its answer.
void ExpectAllowed(const Scenario& scenario, const Outcome& outcome) {
  const absl::Status& status = outcome.status;
  if (status.ok()) return;
  EXPECT_FALSE(scenario.calm) << status;
  const bool expected =
      absl::IsDeadlineExceeded(status) ||
      (absl::IsUnavailable(status) && (outcome.lost_any || scenario.chaos.no_place > 0)) ||
      (absl::IsCancelled(status) && scenario.leave > 0) ||
      (absl::IsOutOfRange(status) &&
       (scenario.chaos.least_pool < 64 || scenario.chaos.odd_width > 0)) ||
      (absl::IsFailedPrecondition(status) && scenario.chaos.foreign > 0);
  EXPECT_TRUE(expected) << status;
}

// How often weights decide what counts would not, and bars end agents.
void CountConfidence(const Completed& completed, Totals& totals) {
  const std::vector<Vote>& votes = completed.receipt.votes;
  const bool weighted = completed.method == Aggregation::kWeightedVote;
  totals.weighted += weighted ? 1 : 0;
  const bool overturned = std::any_of(votes.begin(), votes.end(), [&](const Vote& vote) {
    return vote.count > votes.front().count;
  });
  totals.overturned += weighted && overturned ? 1 : 0;
  for (const AgentUsage& usage : completed.receipt.agents) {
    totals.barred += !usage.cut && usage.reason == Finish::kBar ? 1 : 0;
  }
}

// How far requests in waves came.
void CountWaves(const Plan& plan, const Completed& completed, Totals& totals) {
  if (plan.waves.size() < 2) return;
  ++totals.in_waves;
  size_t entered = 0;
  for (const AgentUsage& usage : completed.receipt.agents)
    entered += StageOf(usage.agent) == kThinkStage ? 1 : 0;
  totals.priced += plan.price > 0 && entered < plan.agents.size() ? 1 : 0;
  totals.later_waves += entered > static_cast<size_t>(plan.waves.front()) ? 1 : 0;
  totals.unasked += entered < plan.agents.size() && completed.receipt.decisions.empty() ? 1 : 0;
}

// Agents that ended with what their copies agreed on.
void CountAgreed(const Plan& plan, const World& world, const Completed& completed, Totals& totals) {
  for (const AgentRecipe& recipe : plan.agents) {
    const std::vector<AgentUsage>& agents = completed.receipt.agents;
    const auto usage = std::find_if(agents.begin(), agents.end(),
                                    [&](const auto& each) { return each.agent == recipe.id; });
    if (usage == agents.end() || usage->cut) continue;
    totals.agreed += AgreedEnd(plan, world, recipe) ? 1 : 0;
  }
}

// What became of requests in rounds and in parts.
void CountRounds(const Plan& plan, const Completed& completed, Totals& totals) {
  int last = 0, ended = 0;
  bool parts = false, whole = false;
  for (const AgentUsage& usage : completed.receipt.agents) {
    const bool thinks = StageOf(usage.agent) == kThinkStage;
    parts = parts || StageOf(usage.agent) == kPartStage;
    whole = whole || thinks;
    if (thinks) last = std::max(last, RoundOf(usage.agent));
    if (thinks && !usage.cut && usage.reason != Finish::kBar)
      ended = std::max(ended, RoundOf(usage.agent));
  }
  totals.refined += last > 0 ? 1 : 0;
  totals.fell_back += ended < last ? 1 : 0;
  if (plan.strategy != Strategy::kDecompose) return;
  totals.not_split += whole ? 1 : 0;
  if (!parts) return;
  ++(completed.method == Aggregation::kSynthesise ? totals.joined : totals.in_parts);
}

// What became of passes of another model.
void CountMoved(const Plan& plan, const Completed& completed, Totals& totals) {
  if (!plan.aggregator) return;
  for (const AgentUsage& usage : completed.receipt.agents) {
    if (StageOf(usage.agent) != kAggregateStage) continue;
    ++(usage.prompt_tokens > 0 ? totals.moved : totals.stayed);
  }
}

void CountMixed(const Completed& completed, Totals& totals) {
  std::set<std::string> models;
  for (const AgentUsage& usage : completed.receipt.agents) {
    if (usage.kept > 0 && StageOf(usage.agent) != kAggregateStage) models.insert(usage.model);
  }
  totals.mixed += models.size() > 1 ? 1 : 0;
}

void RunOne(uint64_t seed, Totals& totals) {
  const bool weighted = seed / 4 % 3 == 1;
  Scenario scenario = weighted ? MakeWeightedScenario(seed) : MakeScenario(seed);
  if (seed / 4 % 7 < 3) AddRounds(scenario);
  if (seed / 4 % 5 < 2) AddWaves(scenario);
  if (seed / 4 % 7 < 2) AddChecker(scenario);
  if (seed / 4 % 11 < 2) AddSelection(scenario);
  if (seed / 4 % 13 < 5) AddProbes(scenario);
  if (seed / 4 % 17 < 5) AddAggregator(scenario);
  if (seed / 4 % 19 < 5) AddModels(scenario);
  ++totals.histories;
  const auto plan = scenario.MakePlan();
  if (!plan.ok()) {
    EXPECT_TRUE(absl::IsInvalidArgument(plan.status())) << plan.status();
    ++totals.refused;
    return;
  }
  const Outcome outcome = RunHistory(scenario, *plan);
  totals.events += outcome.events;
  ++totals.ends[absl::StatusCodeToString(outcome.status.code())];
  ExpectAllowed(scenario, outcome);
  if (!outcome.completed) return;
  CountConfidence(*outcome.completed, totals);
  CountWaves(*plan, *outcome.completed, totals);
  totals.picked += outcome.completed->method == Aggregation::kSelect ? 1 : 0;
  totals.accepted += outcome.completed->accepted == true ? 1 : 0;
  totals.rejected += outcome.completed->accepted == false ? 1 : 0;
  CountAgreed(*plan, scenario.world, *outcome.completed, totals);
  CountRounds(*plan, *outcome.completed, totals);
  CountMoved(*plan, *outcome.completed, totals);
  CountMixed(*outcome.completed, totals);
  CountTaken(outcome.completed->receipt.decisions, totals);
  totals.resumed += outcome.completed->receipt.resumes > 0 ? 1 : 0;
  const bool decided = !outcome.completed->receipt.decisions.empty();
  ++(decided ? totals.decided : totals.undisturbed);
  if (!decided && plan->strategy == Strategy::kSample)
    ExpectReckoned(*outcome.completed, *plan, scenario.world);
  if (decided || seed / 4 % 8 == 0) {
    ExpectReplayed(scenario, outcome, seed ^ 0xabcdefu, totals);
  }
}

void PrintTaken(const Totals& totals) {
  fmt::print("| decision | histories | taken in first runs | taken in replays |\n");
  const std::array names = {"join", "narrow", "drop", "deadline", "stop now"};
  for (size_t kind = 0; kind < names.size(); ++kind) {
    const Taken& taken = totals.taken[kind];
    fmt::print("| {} | {} | {} | {} |\n", names[kind], taken.histories, taken.first, taken.again);
    EXPECT_GE(taken.histories, totals.histories / 200) << names[kind];
    EXPECT_GE(taken.again, taken.first) << names[kind] << ": not every one was replayed";
  }
}

// Each part is a test of its own, so that CTest runs them side by side.
class SimulationTest : public testing::TestWithParam<int> {};

TEST_P(SimulationTest, EveryHistoryKeepsTheRulesAndReplaysToTheSameBytes) {
  Totals totals;
  const int parts = 4;
  const char* only = std::getenv("CONCLAVE_SIMULATION");  // This history alone.
  const int first = only == nullptr ? GetParam() : std::atoi(only);
  const int end = only == nullptr ? Histories() : first % parts == GetParam() ? first + 1 : 0;
  for (int i = first; i < end && !HasFailure(); i += parts) {
    SCOPED_TRACE(i);
    RunOne(static_cast<uint64_t>(i), totals);
  }
  std::string ends;
  for (const auto& [code, count] : totals.ends) ends += fmt::format(" {} {},", code, count);
  PrintTaken(totals);
  fmt::print(
      "{} histories:{} {} undisturbed, {} decided, {} replayed, {} resumed, {} plans refused, "
      "{} weighted votes, {} not as counts say, {} agents below their bar, {} in waves, {} beyond "
      "the first, {} with a wave unasked, {} where another was too dear, {} answers accepted, {} "
      "rejected, {} picked, {} agents whose copies agreed, {} events\n",
      totals.histories, ends, totals.undisturbed, totals.decided, totals.replayed, totals.resumed,
      totals.refused, totals.weighted, totals.overturned, totals.barred, totals.in_waves,
      totals.later_waves, totals.unasked, totals.priced, totals.accepted, totals.rejected,
      totals.picked, totals.agreed, totals.events);
  fmt::print(
      "{} refined, {} of them by the round before, {} joined, {} by parts, {} not split, {} passes "
      "of another model, {} that found none, {} with agents of several models\n",
      totals.refined, totals.fell_back, totals.joined, totals.in_parts, totals.not_split,
      totals.moved, totals.stayed, totals.mixed);
  if (totals.histories < 500) return;
  for (const int reached :
       {totals.told, totals.weighted, totals.overturned, totals.barred, totals.later_waves,
        totals.unasked, totals.priced, totals.accepted, totals.rejected, totals.picked,
        totals.agreed, totals.refined, totals.fell_back, totals.joined, totals.in_parts,
        totals.not_split, totals.moved, totals.stayed, totals.mixed}) {
    EXPECT_GT(reached, 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Parts, SimulationTest, testing::Range(0, 4));

}  // namespace
}  // namespace conclave::router
