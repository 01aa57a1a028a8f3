#include "cli/live_printer.h"

#include <absl/time/time.h>

#include <utility>
#include <vector>

#include "cli/live_view.h"
#include "cli/rate_meter.h"
#include "cli/receipt_text.h"
#include "cli/screen.h"
#include "cli/terminal_text.h"

namespace conclave::cli {
namespace {

constexpr absl::Duration kFrame = absl::Milliseconds(100);
constexpr absl::Duration kFirstFrame = absl::Milliseconds(250);  // What is quicker needs no screen.

}  // namespace

LivePrinter::LivePrinter(const Terminal& terminal, bool color, StopGoal stop)
    : terminal_(terminal), color_(color), stop_(std::move(stop)) {}

void LivePrinter::OnStart() {
  began_ = Clock::now();
  guard_.emplace();
  thread_ = std::thread([this] { Draw(); });
}

LivePrinter::~LivePrinter() { Stop(); }

void LivePrinter::Stop() {
  if (!thread_.joinable()) return;
  {
    absl::MutexLock lock(&mutex_);
    ended_ = true;
  }
  thread_.join();
}

double LivePrinter::Seconds() const {
  return std::chrono::duration<double>(Clock::now() - began_).count();
}

void LivePrinter::On(const v1::GenerateResponse& event) {
  absl::MutexLock lock(&mutex_);
  round_.On(event);
}

void LivePrinter::OnStopping() {
  absl::MutexLock lock(&mutex_);
  round_.Stop();
}

void LivePrinter::Draw() {
  RateMeter rate;
  for (int frame = 0;; ++frame) {
    ViewSize size;
    std::vector<Line> lines;
    {
      absl::MutexLock lock(&mutex_);
      const absl::Duration wait = frame == 0 ? kFirstFrame : kFrame;
      if (mutex_.AwaitWithTimeout(absl::Condition(&ended_), wait)) return;
      size = terminal_.Size();
      const double seconds = Seconds();
      rate.Add(seconds, round_.Tokens());
      lines = LiveLines(round_,
                        {.stop = stop_,
                         .seconds = seconds,
                         .tokens_per_second = rate.PerSecond(),
                         .frame = frame},
                        size);
    }
    // In the background the screen is the shell's.
    if (!terminal_.IsForeground() || ScreenGuard::IsStopping()) continue;
    terminal_.Write((ScreenGuard::Enter() ? kEnterScreen : "") + Frame(lines, color_));
  }
}

void LivePrinter::OnEnd() {
  Stop();
  guard_.reset();
  terminal_.Write(Ending(terminal_.Size().columns));
}

std::string LivePrinter::Ending(int columns) {
  absl::MutexLock lock(&mutex_);
  const double seconds = Seconds();
  const double rate = seconds > 0 ? static_cast<double>(round_.Tokens()) / seconds : 0;
  const ViewTitle title = {.stop = stop_, .seconds = seconds, .tokens_per_second = rate};
  std::string bytes = Kept(FinalLines(round_, title, columns), color_);
  if (!round_.answer().empty()) bytes += "\n" + Printable(round_.answer()) + "\n";
  if (round_.completed().incomplete()) bytes += "the answer is incomplete\n";
  return bytes + "\n" +
         (round_.is_complete() ? ReceiptText(round_.completed().receipt(), columns)
                               : KnownText(round_));
}

}  // namespace conclave::cli
