#include "cli/live_printer.h"

#include <absl/time/time.h>

#include <utility>
#include <vector>

#include "cli/live_view.h"
#include "cli/receipt_text.h"
#include "cli/terminal_text.h"

namespace conclave::cli {
namespace {

constexpr absl::Duration kFrame = absl::Milliseconds(100);

}  // namespace

LivePrinter::LivePrinter(const Terminal& terminal, bool color, std::string stop_rule)
    : terminal_(terminal),
      stop_rule_(stop_rule.empty() ? "settled" : std::move(stop_rule)),
      screen_(color) {}

void LivePrinter::OnStart() {
  began_ = Clock::now();
  thread_ = std::thread([this] { Draw(); });
}

LivePrinter::~LivePrinter() { Stop(); }

void LivePrinter::Stop() {
  if (!thread_.joinable()) return;
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
  }
  thread_.join();
}

ViewTitle LivePrinter::Title() const {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(Clock::now() - began_);
  return {.stop_rule = stop_rule_, .seconds = static_cast<int>(seconds.count())};
}

void LivePrinter::On(const v1::GenerateResponse& event) {
  absl::MutexLock lock(&mutex_);
  round_.On(event);
}

void LivePrinter::Draw() {
  bool was_foreground = true;
  while (true) {
    ViewSize size;
    std::vector<Line> lines;
    {
      absl::MutexLock lock(&mutex_);
      if (mutex_.AwaitWithTimeout(absl::Condition(&stopping_), kFrame)) return;
      size = terminal_.Size();
      lines = LiveLines(round_, Title(), size);
    }
    // In the background the screen is the shell's; back in front, what was drawn has scrolled.
    const bool is_foreground = terminal_.IsForeground();
    if (is_foreground && !was_foreground) screen_.Forget();
    was_foreground = is_foreground;
    if (is_foreground) terminal_.Write(screen_.Redraw(lines, size.columns));
  }
}

void LivePrinter::OnEnd() {
  Stop();
  const int columns = terminal_.Size().columns;
  absl::MutexLock lock(&mutex_);
  std::string bytes = screen_.Erase(columns);
  bytes += screen_.Keep(FinalLines(round_, Title(), columns));
  if (!round_.answer().empty()) bytes += "\n" + Printable(round_.answer()) + "\n";
  if (round_.completed().incomplete()) bytes += "the answer is incomplete\n";
  bytes += "\n";
  bytes +=
      round_.is_complete() ? ReceiptText(round_.completed().receipt(), columns) : KnownText(round_);
  terminal_.Write(bytes);
}

}  // namespace conclave::cli
