#include "cli/eval/report.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <utility>

#include "cli/eval/asker.h"

namespace conclave::cli {
namespace {

using ByProblem = std::map<std::string, const Outcome*>;

Measure Share(int64_t right, int64_t n) {
  return {n == 0 ? 0 : static_cast<double>(right) / static_cast<double>(n),
          WilsonInterval(right, n)};
}

Measure MeanOf(const std::vector<double>& values) { return {Mean(values), MeanInterval(values)}; }

Measure RatioOf(const std::vector<double>& above, const std::vector<double>& below) {
  const double under = Mean(below);
  return {under == 0 ? 0 : Mean(above) / under, RatioInterval(above, below)};
}

// Equal answers get equal numbers.
std::vector<Ballot> PoolOf(const Outcome& outcome) {
  std::map<std::string_view, int> numbers;
  std::vector<Ballot> pool;
  for (const AgentOutcome& agent : outcome.agents) {
    Ballot ballot{.answer = -1, .right = agent.right, .tokens = agent.tokens};
    if (agent.answer) {
      ballot.answer =
          numbers.emplace(*agent.answer, static_cast<int>(numbers.size())).first->second;
    }
    pool.push_back(ballot);
  }
  return pool;
}

int RightOf(const std::vector<Ballot>& pool) {
  return static_cast<int>(
      std::count_if(pool.begin(), pool.end(), [](const Ballot& one) { return one.right; }));
}

// The votes of fewer agents, where equally many of every question ran to their end: those that are
// asked only where the first ones disagree are not any agents.
void AddCurve(const std::vector<std::vector<Ballot>>& pools, uint64_t seed, ArmReport& arm) {
  for (const std::vector<Ballot>& pool : pools) {
    if (static_cast<int>(pool.size()) < arm.width) return;
  }
  for (int k = 1; k <= arm.width; k *= 2) {
    std::vector<double> majority, pass, tokens, critical_path;
    for (size_t i = 0; i < pools.size(); ++i) {
      const MajorityPoint point = MajorityAtK(pools[i], k, SeedOf(seed, std::to_string(i)));
      majority.push_back(point.right);
      tokens.push_back(point.tokens);
      critical_path.push_back(point.critical_path);
      pass.push_back(PassAtK(static_cast<int>(pools[i].size()), RightOf(pools[i]), k));
    }
    arm.curve.push_back({.k = k,
                         .majority = MeanOf(majority),
                         .pass = MeanOf(pass),
                         .tokens = Mean(tokens),
                         .critical_path = Mean(critical_path)});
  }
}

// What the agents knew, and what was made of it.
void AddAgents(const ByProblem& outcomes, uint64_t seed, ArmReport& arm) {
  std::vector<std::vector<Ballot>> pools;
  std::vector<double> mean, loss;
  int64_t any = 0, majority = 0;
  bool all_ended = true;
  for (const auto& [problem, outcome] : outcomes) {
    if (!outcome->error.empty() || outcome->agents.empty()) continue;
    all_ended = all_ended && outcome->cut == 0;
    std::vector<Ballot> pool = PoolOf(*outcome);
    const int size = static_cast<int>(pool.size()), right = RightOf(pool);
    arm.width = std::max(arm.width, size);
    mean.push_back(static_cast<double>(right) / size);
    majority += MajorityAtK(pool, size, seed).right > 0 ? 1 : 0;
    any += right > 0 ? 1 : 0;
    loss.push_back((right > 0 ? 1 : 0) - (outcome->right ? 1 : 0));
    pools.push_back(std::move(pool));
  }
  arm.mean = MeanOf(mean);
  arm.majority = Share(majority, static_cast<int64_t>(loss.size()));
  arm.pass = Share(any, static_cast<int64_t>(loss.size()));
  arm.selection_loss = MeanOf(loss);
  if (all_ended && arm.width > 1) AddCurve(pools, seed, arm);
}

// Means and quantiles of what was answered.
void AddCosts(const ByProblem& outcomes, ArmReport& arm) {
  std::vector<double> kept, total, critical_path, discarded, probes, aggregation, prompt, computed;
  std::vector<double> seconds, first;
  std::map<std::string, int> methods;
  for (const auto& [problem, outcome] : outcomes) {
    if (!outcome->error.empty()) continue;
    kept.push_back(static_cast<double>(outcome->kept));
    total.push_back(static_cast<double>(outcome->total()));
    critical_path.push_back(static_cast<double>(outcome->critical_path));
    discarded.push_back(static_cast<double>(outcome->discarded));
    probes.push_back(static_cast<double>(outcome->probes));
    aggregation.push_back(static_cast<double>(outcome->aggregation));
    prompt.push_back(static_cast<double>(outcome->prompt));
    computed.push_back(static_cast<double>(outcome->prompt_computed));
    seconds.push_back(outcome->seconds);
    first.push_back(outcome->first_seconds);
    ++methods[outcome->method.empty() ? "single" : outcome->method];
  }
  arm.kept = MeanOf(kept);
  arm.total = MeanOf(total);
  arm.critical_path = MeanOf(critical_path);
  arm.discarded = Mean(discarded);
  arm.probes = Mean(probes);
  arm.aggregation = Mean(aggregation);
  arm.prompt = Mean(prompt);
  arm.prompt_computed = Mean(computed);
  arm.seconds_p50 = Quantile(seconds, 0.5);
  arm.seconds_p99 = Quantile(seconds, 0.99);
  arm.seconds_most = Quantile(seconds, 1);
  arm.first_p50 = Quantile(first, 0.5);
  arm.first_p99 = Quantile(first, 0.99);
  arm.methods.assign(methods.begin(), methods.end());
}

ArmReport ReportOf(const std::string& name, const ByProblem& outcomes, uint64_t seed) {
  ArmReport arm;
  arm.name = name;
  int64_t right = 0;
  std::array<int, kFractions> early = {};
  for (const auto& [problem, outcome] : outcomes) {
    ++arm.asked;
    arm.errors += outcome->error.empty() ? 0 : 1;
    arm.incomplete += outcome->incomplete ? 1 : 0;
    arm.retried += outcome->tries > 1 ? 1 : 0;
    arm.narrowed += outcome->left_out > 0 ? 1 : 0;
    right += outcome->right ? 1 : 0;
    for (size_t i = 0; i < early.size(); ++i) early[i] += outcome->early[i] ? 1 : 0;
  }
  arm.chosen = Share(right, arm.asked);
  for (size_t i = 0; i < early.size(); ++i) {
    arm.early[i] = arm.asked == 0 ? 0 : static_cast<double>(early[i]) / arm.asked;
  }
  AddAgents(outcomes, seed, arm);
  AddCosts(outcomes, arm);
  return arm;
}

Comparison Compare(const ByProblem& first, const ByProblem& other) {
  Comparison c;
  std::vector<double> difference, tokens, first_tokens, path, first_path;
  for (const auto& [problem, b] : other) {
    const auto found = first.find(problem);
    if (found == first.end()) continue;
    const Outcome* const a = found->second;
    ++c.questions;
    c.only_first += a->right && !b->right ? 1 : 0;
    c.only_this += b->right && !a->right ? 1 : 0;
    difference.push_back((b->right ? 1 : 0) - (a->right ? 1 : 0));
    if (!a->error.empty() || !b->error.empty()) continue;
    tokens.push_back(static_cast<double>(b->total()));
    first_tokens.push_back(static_cast<double>(a->total()));
    path.push_back(static_cast<double>(b->critical_path));
    first_path.push_back(static_cast<double>(a->critical_path));
  }
  c.p = McNemarTest(c.only_first, c.only_this);
  c.difference = MeanOf(difference);
  c.tokens = RatioOf(tokens, first_tokens);
  c.critical_path = RatioOf(path, first_path);
  return c;
}

}  // namespace

EvalReport MakeReport(const std::string& suite, uint64_t seed, const std::vector<std::string>& arms,
                      const std::vector<Outcome>& outcomes) {
  std::map<std::string, ByProblem> by_arm;
  for (const Outcome& outcome : outcomes) by_arm[outcome.arm][outcome.problem] = &outcome;
  EvalReport report{.suite = suite, .seed = seed, .arms = {}};
  for (const std::string& name : arms) {
    report.arms.push_back(ReportOf(name, by_arm[name], seed));
    report.arms.back().versus_first = Compare(by_arm[arms.front()], by_arm[name]);
  }
  return report;
}

}  // namespace conclave::cli
