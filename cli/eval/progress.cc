#include "cli/eval/progress.h"

#include <fmt/format.h>

#include "cli/terminal_text.h"

namespace conclave::cli {
namespace {

constexpr absl::Duration kRedraw = absl::Milliseconds(200), kLine = absl::Seconds(30);
constexpr int kColumns = 79;

}  // namespace

Progress::~Progress() {
  if (drawn_) notes_ << "\r\x1b[K" << std::flush;
}

void Progress::On(const Outcome& outcome) {
  Count& count = arms_[outcome.arm];
  ++count.asked;
  count.right += outcome.right ? 1 : 0;
  count.errors += outcome.error.empty() ? 0 : 1;
  ++done_;
  if (left_ > 0) --left_;
  if (count.errors == 1 && !outcome.error.empty()) {
    notes_ << (drawn_ ? "\r\x1b[K" : "") << "conclave: " << outcome.arm << ": "
           << OneLine(outcome.error) << '\n';
  }
  const absl::Time now = absl::Now();
  if (now - shown_ < (redraw_ ? kRedraw : kLine) && left_ > 0) return;
  shown_ = now;
  const double seconds = absl::ToDoubleSeconds(now - began_);
  const double rate = seconds > 0 ? static_cast<double>(done_) / seconds : 0;
  std::string line = fmt::format("{}  {}/{} right", outcome.arm, count.right, count.asked);
  if (count.errors > 0) line += fmt::format(", {} errors", count.errors);
  line += fmt::format("  {:.1f}/s  {} left", rate, left_);
  if (rate > 0) line += fmt::format(", {:.0f} s", static_cast<double>(left_) / rate);
  notes_ << (redraw_ ? "\r\x1b[K" : "") << Fit(line, kColumns) << (redraw_ ? "" : "\n")
         << std::flush;
  drawn_ = redraw_;
}

}  // namespace conclave::cli
