#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/eval/report.h"
#include "cli/terminal_text.h"

namespace conclave::cli {
namespace {

using nlohmann::ordered_json;

constexpr int kName = 16;  // Columns of an arm's name.

std::string Percent(double share) { return fmt::format("{:.1f}", 100 * share); }

// In at most 7 columns.
std::string Amount(double value) {
  if (value >= 1e8) return fmt::format("{:.3g}", value);
  if (value >= 1e6) return fmt::format("{:.2f}M", value / 1e6);
  return value >= 1e5 ? fmt::format("{:.0f}k", value / 1e3) : fmt::format("{:.1f}", value);
}

std::string Seconds(double value) {
  return value >= 1000 ? fmt::format("{:.0f}", value) : fmt::format("{:.3f}", value);
}

std::string Name(const std::string& name) {
  return fmt::format("  {:<{}}", Fit(name, kName), kName);
}

// "57.0 [50.1, 63.7]"
std::string PercentOf(const Measure& m) {
  return fmt::format("{:>5} [{:>4}, {:>5}]", Percent(m.value), Percent(m.interval.low),
                     Percent(m.interval.high));
}

std::string RatioOf(const Measure& m) {
  return fmt::format("{:.3f} [{:.3f}, {:.3f}]", m.value, m.interval.low, m.interval.high);
}

std::string ArmsText(const EvalReport& report) {
  std::string text = fmt::format(
      "  {:<{}}{:>20} {:>3} {:>6} {:>6} {:>6} {:>6} {:>8} {:>7} {:>7} {:>8} {:>8} {:>5}\n", "arm",
      kName, "right %   95 %", "N", "mean", "maj", "pass", "loss", "tokens", "dropped", "in row",
      "p50 s", "p99 s", "err");
  for (const ArmReport& arm : report.arms) {
    const bool agents = arm.width > 0;
    const auto share = [agents](const Measure& m) { return agents ? Percent(m.value) : "-"; };
    text +=
        fmt::format("{}{:>20} {:>3} {:>6} {:>6} {:>6} {:>6} {:>8} {:>7} {:>7} {:>8} {:>8} {:>5}\n",
                    Name(arm.name), PercentOf(arm.chosen), arm.width, share(arm.mean),
                    share(arm.majority), share(arm.pass), share(arm.selection_loss),
                    Amount(arm.total.value), Amount(arm.discarded), Amount(arm.critical_path.value),
                    Seconds(arm.seconds_p50), Seconds(arm.seconds_p99), arm.errors);
  }
  return text;
}

std::string VersusText(const EvalReport& report) {
  const std::string& first = report.arms[0].name;
  std::string text = fmt::format("  {:<{}}{:>24} {:>9} {:>9} {:>8}   {:<22}  {}\n",
                                 "against " + Fit(first, 8), kName, "points   95 %", "only it",
                                 "only that", "p", "tokens, times", "in a row, times");
  for (size_t i = 1; i < report.arms.size(); ++i) {
    const Comparison& c = report.arms[i].versus_first;
    text +=
        fmt::format("{}{:>24} {:>9} {:>9} {:>8.2g}   {:<22}  {}\n", Name(report.arms[i].name),
                    fmt::format("{:+.1f} [{:+.1f}, {:+.1f}]", 100 * c.difference.value,
                                100 * c.difference.interval.low, 100 * c.difference.interval.high),
                    c.only_this, c.only_first, c.p, RatioOf(c.tokens), RatioOf(c.critical_path));
  }
  return text;
}

std::string CurveText(const ArmReport& arm) {
  std::string text =
      fmt::format("  {:<{}}{:>20} {:>20} {:>9} {:>9}\n", "votes of " + Fit(arm.name, 7), kName,
                  "maj@k   95 %", "pass@k   95 %", "tokens", "in a row");
  for (const CurvePoint& point : arm.curve) {
    text += fmt::format("{}{:>20} {:>20} {:>9.1f} {:>9.1f}\n", Name(fmt::format("{}", point.k)),
                        PercentOf(point.majority), PercentOf(point.pass), point.tokens,
                        point.critical_path);
  }
  return text;
}

std::string EarlyText(const EvalReport& report) {
  std::string text = fmt::format("  {:<{}}", "right so far, %", kName);
  for (int i = 1; i <= kFractions; ++i) text += fmt::format(" {:>6}", fmt::format(".{}", i % 10));
  text.replace(text.size() - 2, 2, "1.");
  text += "   of the token time\n";
  for (const ArmReport& arm : report.arms) {
    if (arm.width < 2) continue;
    text += Name(arm.name);
    for (const double share : arm.early) text += fmt::format(" {:>6}", Percent(share));
    text += "\n";
  }
  return text;
}

// What makes the numbers mean less than they seem to.
std::string NotesText(const EvalReport& report) {
  std::string text;
  for (const ArmReport& arm : report.arms) {
    if (arm.narrowed > 0) {
      text += fmt::format(
          "  {}: {} questions had fewer agents, for want of room or by a loss; a "
          "lower --concurrency leaves them room\n",
          arm.name, arm.narrowed);
    }
    if (arm.incomplete > 0) {
      text += fmt::format("  {}: {} answers were ended by a deadline, a budget or a loss\n",
                          arm.name, arm.incomplete);
    }
    if (arm.retried > 0) {
      text += fmt::format("  {}: {} questions were refused at first, and asked again\n", arm.name,
                          arm.retried);
    }
  }
  return text.empty() ? text : "\n" + text;
}

ordered_json JsonOf(const Measure& m) {
  return {{"value", m.value}, {"low", m.interval.low}, {"high", m.interval.high}};
}

ordered_json JsonOf(const Comparison& c) {
  ordered_json json;
  json["questions"] = c.questions;
  json["only_first"] = c.only_first;
  json["only_this"] = c.only_this;
  json["mcnemar_p"] = c.p;
  json["difference"] = JsonOf(c.difference);
  json["tokens_ratio"] = JsonOf(c.tokens);
  json["critical_path_ratio"] = JsonOf(c.critical_path);
  return json;
}

ordered_json JsonOf(const CurvePoint& point) {
  ordered_json json;
  json["k"] = point.k;
  json["majority"] = JsonOf(point.majority);
  json["pass"] = JsonOf(point.pass);
  json["tokens"] = point.tokens;
  json["critical_path"] = point.critical_path;
  return json;
}

ordered_json JsonOf(const ArmReport& arm) {
  ordered_json json;
  json["arm"] = arm.name;
  json["asked"] = arm.asked;
  json["errors"] = arm.errors;
  json["incomplete"] = arm.incomplete;
  json["retried"] = arm.retried;
  json["narrowed"] = arm.narrowed;
  json["right"] = JsonOf(arm.chosen);
  json["agents"] = arm.width;
  json["mean_at_1"] = JsonOf(arm.mean);
  json["majority"] = JsonOf(arm.majority);
  json["pass"] = JsonOf(arm.pass);
  json["selection_loss"] = JsonOf(arm.selection_loss);
  json["tokens"] = JsonOf(arm.total);
  json["kept"] = JsonOf(arm.kept);
  json["critical_path"] = JsonOf(arm.critical_path);
  json["discarded"] = arm.discarded;
  json["probes"] = arm.probes;
  json["aggregation"] = arm.aggregation;
  json["prompt"] = arm.prompt;
  json["prompt_computed"] = arm.prompt_computed;
  json["seconds"] = {
      {"p50", arm.seconds_p50}, {"p99", arm.seconds_p99}, {"most", arm.seconds_most}};
  json["first_answer_seconds"] = {{"p50", arm.first_p50}, {"p99", arm.first_p99}};
  json["right_so_far"] = arm.early;
  for (const auto& [method, count] : arm.methods) json["methods"][method] = count;
  for (const CurvePoint& point : arm.curve) json["curve"].push_back(JsonOf(point));
  json["versus_first"] = JsonOf(arm.versus_first);
  return json;
}

}  // namespace

std::string ReportText(const EvalReport& report) {
  std::string text = fmt::format("{}, {} questions\n\n", OneLine(report.suite),
                                 report.arms.empty() ? 0 : report.arms[0].asked);
  if (report.arms.empty()) return text;
  text += ArmsText(report);
  if (report.arms.size() > 1) text += "\n" + VersusText(report);
  for (const ArmReport& arm : report.arms) {
    if (!arm.curve.empty()) text += "\n" + CurveText(arm);
  }
  const bool several = std::any_of(report.arms.begin(), report.arms.end(),
                                   [](const ArmReport& arm) { return arm.width > 1; });
  if (several) text += "\n" + EarlyText(report);
  return text + NotesText(report);
}

std::string ReportToJson(const EvalReport& report) {
  ordered_json json;
  json["suite"] = report.suite;
  json["seed"] = report.seed;
  json["arms"] = ordered_json::array();
  for (const ArmReport& arm : report.arms) json["arms"].push_back(JsonOf(arm));
  return ordered_json{{"summary", std::move(json)}}.dump(-1, ' ', false,
                                                         ordered_json::error_handler_t::replace);
}

}  // namespace conclave::cli
