#pragma once

#include <string>
#include <vector>

#include "cli/eval/report.h"

namespace conclave::cli {

// A place of a plot: how right something is, for what it costs.
struct PlotPoint {
  double x = 0;  // Above 0, or it is left out.
  Measure y;     // 0 to 1.
  std::string label;
};

// Points of one colour; a line joins them in the order in which they stand.
struct PlotSeries {
  std::string name;
  std::vector<PlotPoint> points;
  bool joined = false;
};

// A plot with a logarithmic x axis, as an <svg> element whose colours are the page's (classes axis,
// grid, s0 to s7). Texts are escaped.
std::string PlotSvg(const std::string& title, const std::string& x_name,
                    const std::vector<PlotSeries>& series);

// Text inside an element or an attribute.
std::string EscapeHtml(const std::string& text);

}  // namespace conclave::cli
