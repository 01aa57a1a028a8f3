#include "cli/eval/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace conclave::cli {
namespace {

constexpr double kWidth = 720, kHeight = 400;
constexpr double kLeft = 56, kRight = 24, kTop = 40, kBottom = 48;
constexpr double kLine = 14;  // Least distance of two labels, one above the other.
constexpr size_t kColours = 8;

// Where values stand: decades of x, shares of y.
class Frame {
 public:
  explicit Frame(const std::vector<PlotSeries>& all) {
    double least = INFINITY, most = 0, low = 1, high = 0;
    for (const PlotSeries& series : all) {
      for (const PlotPoint& point : series.points) {
        if (point.x <= 0) continue;
        least = std::min(least, point.x);
        most = std::max(most, point.x);
        low = std::min(low, point.y.interval.low);
        high = std::max(high, point.y.interval.high);
      }
    }
    if (most == 0) least = most = 1;
    left_ = std::log10(least) - 0.08;
    right_ = std::max(std::log10(most) + 0.25, left_ + 0.5);  // Labels stand to the right.
    step_ = high - low > 0.4 ? 0.1 : 0.05;
    low_ = std::max(0.0, std::floor(low / step_ + 1e-9) * step_);
    high_ = std::max(std::min(1.0, std::ceil(high / step_ - 1e-9) * step_), low_ + step_);
  }

  double X(double value) const {
    return kLeft + (std::log10(value) - left_) / (right_ - left_) * (kWidth - kLeft - kRight);
  }
  double Y(double share) const {
    return kHeight - kBottom - (share - low_) / (high_ - low_) * (kHeight - kTop - kBottom);
  }
  double left() const { return std::pow(10, left_); }
  double right() const { return std::pow(10, right_); }
  double low() const { return low_; }
  double high() const { return high_; }
  double step() const { return step_; }  // Of the lines for shares.
  // Of 1 to 10: where lines for x stand.
  std::vector<double> parts() const {
    if (right_ - left_ > 1.2) return {1, 2, 5};
    return {1, 1.5, 2, 2.5, 3, 4, 5, 6, 8};
  }

 private:
  double left_ = 0, right_ = 1, low_ = 0, high_ = 1, step_ = 0.1;
};

std::string NumberText(double value) {
  if (value >= 1e6) return fmt::format("{:g}M", value / 1e6);
  if (value >= 1e4) return fmt::format("{:g}k", value / 1e3);
  return fmt::format("{:g}", value);
}

std::string Axes(const Frame& frame, const std::string& x_name) {
  std::string svg;
  for (double y = frame.low(); y <= frame.high() + 1e-9; y += frame.step()) {
    svg += fmt::format(
        "<line class=\"grid\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
        "<text class=\"axis\" x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{:.0f} %</text>\n",
        kLeft, kWidth - kRight, frame.Y(y), frame.Y(y), kLeft - 8, frame.Y(y) + 4, 100 * y);
  }
  for (int decade = -4; decade < 10; ++decade) {
    for (const double part : frame.parts()) {
      const double x = part * std::pow(10, decade);
      if (x < frame.left() || x > frame.right()) continue;
      svg += fmt::format(
          "<line class=\"grid\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{}\" y2=\"{}\"/>"
          "<text class=\"axis\" x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
          frame.X(x), frame.X(x), kTop, kHeight - kBottom, frame.X(x), kHeight - kBottom + 18,
          NumberText(x));
    }
  }
  return svg +
         fmt::format("<text class=\"axis\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n",
                     (kLeft + kWidth - kRight) / 2, kHeight - 8, EscapeHtml(x_name));
}

// Finds a label's line: not on one that is near.
class Labels {
 public:
  double Place(double x, double y) {
    for (bool moved = true; std::exchange(moved, false);) {
      for (const auto& [at_x, at_y] : taken_) {
        if (std::abs(at_x - x) > 90 || std::abs(at_y - y) >= kLine) continue;
        y = at_y + kLine;
        moved = true;
      }
    }
    taken_.emplace_back(x, y);
    return y;
  }

 private:
  std::vector<std::pair<double, double>> taken_;
};

std::string SeriesSvg(const PlotSeries& series, size_t colour, const Frame& frame, Labels& labels) {
  std::string marks, path;
  for (const PlotPoint& point : series.points) {
    if (point.x <= 0) continue;
    const double x = frame.X(point.x), y = frame.Y(point.y.value);
    path += fmt::format("{}{:.1f},{:.1f}", path.empty() ? "" : " ", x, y);
    marks += fmt::format(
        "<line class=\"bar\" x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
        "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\"><title>{}: {:.1f} % at {:g}</title></circle>"
        "<text x=\"{:.1f}\" y=\"{:.1f}\">{}</text>\n",
        x, x, frame.Y(point.y.interval.low), frame.Y(point.y.interval.high), x, y,
        series.joined ? 3 : 5, EscapeHtml(series.name), 100 * point.y.value, point.x, x + 8,
        labels.Place(x, y + 4), EscapeHtml(point.label));
  }
  std::string svg = fmt::format("<g class=\"s{}\">\n", colour % kColours);
  if (series.joined) svg += fmt::format("<polyline points=\"{}\"/>\n", path);
  return svg + marks + "</g>\n";
}

}  // namespace

std::string EscapeHtml(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    escaped += c == '&'   ? "&amp;"
               : c == '<' ? "&lt;"
               : c == '>' ? "&gt;"
               : c == '"' ? "&quot;"
                          : std::string(1, c);
  }
  return escaped;
}

std::string PlotSvg(const std::string& title, const std::string& x_name,
                    const std::vector<PlotSeries>& series) {
  const Frame frame(series);
  Labels labels;
  std::string svg = fmt::format(
      "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">\n"
      "<text class=\"title\" x=\"{}\" y=\"22\">{}</text>\n",
      kWidth, kHeight, EscapeHtml(title), kLeft, EscapeHtml(title));
  svg += Axes(frame, x_name);
  for (size_t i = 0; i < series.size(); ++i) svg += SeriesSvg(series[i], i, frame, labels);
  return svg + "</svg>\n";
}

}  // namespace conclave::cli
