#include <fmt/format.h>

#include <functional>

#include "cli/eval/plot.h"
#include "cli/eval/report.h"

namespace conclave::cli {
namespace {

constexpr char kStyle[] = R"(<style>
:root { color-scheme: light dark; --ink: #1c2024; --faint: #6b7280; --line: #e2e5e9; --paper: #fff;
  --c0: #2563eb; --c1: #dc2626; --c2: #059669; --c3: #9333ea; --c4: #d97706; --c5: #0891b2;
  --c6: #be185d; --c7: #4d7c0f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --faint: #9aa2ad; --line: #2c323a;
  --paper: #14171b; --c0: #6ea0ff; --c1: #ff7b7b; --c2: #3fd3a0; --c3: #c38bff; --c4: #f5b041;
  --c5: #4cc9e0; --c6: #f472b6; --c7: #a3d65c; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 1080px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.05rem; margin-top: 2rem; }
p, .note { color: var(--faint); }
table { border-collapse: collapse; width: 100%; font-size: 13px;
  font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .5rem; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { color: var(--faint); font-weight: 500; }
.wide { overflow-x: auto; }
svg { width: 100%; height: auto; margin: .5rem 0 1rem; }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .title { font-size: 14px; font-weight: 600; }
svg .axis { fill: var(--faint); }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .bar { stroke: currentColor; stroke-width: 1.5; opacity: .6; }
svg circle { fill: currentColor; }
svg polyline { fill: none; stroke: currentColor; stroke-width: 1.5; opacity: .8; }
svg .s0 { color: var(--c0); } svg .s1 { color: var(--c1); } svg .s2 { color: var(--c2); }
svg .s3 { color: var(--c3); } svg .s4 { color: var(--c4); } svg .s5 { color: var(--c5); }
svg .s6 { color: var(--c6); } svg .s7 { color: var(--c7); }
</style>
)";

std::string Percent(double share) { return fmt::format("{:.1f}", 100 * share); }

std::string PercentOf(const Measure& m) {
  return fmt::format("{} <span class=\"note\">{} to {}</span>", Percent(m.value),
                     Percent(m.interval.low), Percent(m.interval.high));
}

std::string Row(const std::vector<std::string>& cells, const char* kind) {
  std::string row = "<tr>";
  for (const std::string& cell : cells) row += fmt::format("<{}>{}</{}>", kind, cell, kind);
  return row + "</tr>\n";
}

std::string ArmsTable(const EvalReport& report) {
  std::string table = Row({"arm", "right %, 95 %", "agents", "mean@1", "maj@N", "pass@N", "loss",
                           "tokens", "kept", "dropped", "in a row", "p50 s", "p99 s", "errors"},
                          "th");
  for (const ArmReport& arm : report.arms) {
    const auto share = [&arm](const Measure& m) {
      return arm.width > 0 ? Percent(m.value) : std::string("-");
    };
    const auto number = [](double value) { return fmt::format("{:.1f}", value); };
    table += Row({EscapeHtml(arm.name), PercentOf(arm.chosen), std::to_string(arm.width),
                  share(arm.mean), share(arm.majority), share(arm.pass), share(arm.selection_loss),
                  number(arm.total.value), number(arm.kept.value), number(arm.discarded),
                  number(arm.critical_path.value), fmt::format("{:.3f}", arm.seconds_p50),
                  fmt::format("{:.3f}", arm.seconds_p99), std::to_string(arm.errors)},
                 "td");
  }
  return "<div class=\"wide\"><table>\n" + table + "</table></div>\n";
}

std::string VersusTable(const EvalReport& report) {
  std::string table = Row({"arm", "points", "95 %", "only it right", "only that right", "p",
                           "tokens, times", "in a row, times"},
                          "th");
  for (size_t i = 1; i < report.arms.size(); ++i) {
    const Comparison& c = report.arms[i].versus_first;
    table +=
        Row({EscapeHtml(report.arms[i].name), fmt::format("{:+.1f}", 100 * c.difference.value),
             fmt::format("{:+.1f} to {:+.1f}", 100 * c.difference.interval.low,
                         100 * c.difference.interval.high),
             std::to_string(c.only_this), std::to_string(c.only_first), fmt::format("{:.2g}", c.p),
             fmt::format("{:.3f}", c.tokens.value), fmt::format("{:.3f}", c.critical_path.value)},
            "td");
  }
  return fmt::format("<h2>Against {}</h2>\n<div class=\"wide\"><table>\n{}</table></div>\n",
                     EscapeHtml(report.arms[0].name), table);
}

// "vote16" is of the series "vote".
std::string SeriesOf(const std::string& arm) {
  const size_t end = arm.find_last_not_of("0123456789");
  return end == std::string::npos || end + 1 == arm.size() ? arm : arm.substr(0, end + 1);
}

// Arms as points, those of one series joined; and the votes of fewer agents where `of_curve` gives
// them a place.
std::vector<PlotSeries> SeriesOf(const EvalReport& report,
                                 const std::function<double(const ArmReport&)>& of_arm,
                                 const std::function<double(const CurvePoint&)>& of_curve) {
  std::vector<PlotSeries> all;
  for (const ArmReport& arm : report.arms) {
    const PlotPoint point{.x = of_arm(arm), .y = arm.chosen, .label = arm.name};
    const std::string name = SeriesOf(arm.name);
    if (!all.empty() && all.back().name == name && name != arm.name) {
      all.back().points.push_back(point);
      all.back().joined = true;
    } else {
      all.push_back({.name = name, .points = {point}});
    }
  }
  for (const ArmReport& arm : report.arms) {
    if (arm.curve.empty() || !of_curve) continue;
    PlotSeries majority{.name = "maj@k of " + arm.name, .points = {}, .joined = true};
    for (const CurvePoint& point : arm.curve) {
      majority.points.push_back(
          {.x = of_curve(point), .y = point.majority, .label = fmt::format("maj@{}", point.k)});
    }
    all.push_back(std::move(majority));
  }
  return all;
}

}  // namespace

std::string ReportPage(const EvalReport& report) {
  const std::string title = EscapeHtml("conclave eval: " + report.suite);
  std::string page = fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<title>{}</title>\n{}</head>\n<body>\n<h1>{}</h1>\n",
      title, kStyle, title);
  if (report.arms.empty()) return page + "</body>\n</html>\n";
  page += fmt::format(
      "<p>{} questions. Intervals of 95 %: Wilson's for shares, the bootstrap's for the rest. "
      "Tokens are those of one question, computed past a cut and by probes included; in a row are "
      "those that had to be produced one after another.</p>\n",
      report.arms[0].asked);
  page += ArmsTable(report);
  if (report.arms.size() > 1) page += VersusTable(report);
  page += "<h2>Right answers for their cost</h2>\n";
  page += PlotSvg("for all tokens", "tokens of a question, mean",
                  SeriesOf(
                      report, [](const ArmReport& arm) { return arm.total.value; },
                      [](const CurvePoint& point) { return point.tokens; }));
  page += PlotSvg("for tokens in a row", "tokens in a row of a question, mean",
                  SeriesOf(
                      report, [](const ArmReport& arm) { return arm.critical_path.value; },
                      [](const CurvePoint& point) { return point.critical_path; }));
  page += PlotSvg("for time", "seconds of a question, median",
                  SeriesOf(
                      report, [](const ArmReport& arm) { return arm.seconds_p50; }, nullptr));
  return page + "</body>\n</html>\n";
}

}  // namespace conclave::cli
