#pragma once

#include <array>
#include <string>
#include <vector>

#include "cli/eval/outcome.h"
#include "cli/eval/statistics.h"

namespace conclave::cli {

// A number with what it may be.
struct Measure {
  double value = 0;
  Interval interval;
};

// A vote of k of an arm's agents.
struct CurvePoint {
  int k = 0;
  Measure majority, pass;
  double tokens = 0, critical_path = 0;  // Means.
};

// An arm against the first one, on the questions that both were asked.
struct Comparison {
  int questions = 0;
  int only_first = 0, only_this = 0;  // Right where the other is wrong.
  double p = 1;                       // McNemar's.
  Measure difference;                 // Of the shares that are right.
  Measure tokens, critical_path;      // Ratios: this arm's to the first one's.
};

// What an arm came to. Questions that ended with an error count as wrong, and for nothing else.
struct ArmReport {
  std::string name;
  int asked = 0, errors = 0, incomplete = 0, retried = 0;
  int narrowed = 0;                    // Questions with agents that found no room, or were lost.
  Measure chosen;                      // Share of right answers.
  int width = 0;                       // Most agents of one question that voted.
  Measure mean, majority, pass;        // Of those agents: one alone, their vote, any.
  Measure selection_loss;              // pass - chosen, on the questions whose agents are known.
  Measure kept, total, critical_path;  // Tokens of a question.
  double discarded = 0, probes = 0, aggregation = 0, prompt_computed = 0, prompt = 0;  // Means.
  double seconds_p50 = 0, seconds_p99 = 0, seconds_most = 0;
  double first_p50 = 0, first_p99 = 0;
  std::array<double, kFractions> early = {};  // Share of right answers at parts of the token time.
  std::vector<CurvePoint> curve;  // k = 1, 2, 4, ... of an arm whose agents all run to their end.
  std::vector<std::pair<std::string, int>> methods;  // How answers were found, and how often.
  Comparison versus_first;                           // Of the first: with itself.
};

struct EvalReport {
  std::string suite;
  uint64_t seed = 0;
  std::vector<ArmReport> arms;
};

// Sums up outcomes; of several of one question and arm the last counts. `arms` gives the order; the
// first is what the others are compared with. The same outcomes give the same report.
EvalReport MakeReport(const std::string& suite, uint64_t seed, const std::vector<std::string>& arms,
                      const std::vector<Outcome>& outcomes);

// As a table for people, at most 120 columns wide: lines that end with '\n'.
std::string ReportText(const EvalReport& report);
// As one line of JSON, without its end.
std::string ReportToJson(const EvalReport& report);
// As a page: all that it needs is in it.
std::string ReportPage(const EvalReport& report);

}  // namespace conclave::cli
