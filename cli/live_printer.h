#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include <chrono>
#include <optional>
#include <string>
#include <thread>

#include "cli/printer.h"
#include "cli/round.h"
#include "cli/screen_guard.h"
#include "cli/terminal.h"

namespace conclave::cli {

// Shows a request at a terminal as it runs: a thread draws it on the terminal's second screen, at
// most ten times a second. At the end the agents, the vote, the whole answer and the receipt stay
// on the first, once. Only OnEnd() waits for the terminal.
class LivePrinter : public Printer {
 public:
  LivePrinter(const Terminal& terminal, bool color, StopGoal stop);
  ~LivePrinter() override;
  void OnStart() override;
  void On(const v1::GenerateResponse& event) override;
  void OnStopping() override;
  void OnEnd() override;

 private:
  using Clock = std::chrono::steady_clock;

  void Draw();
  void Stop();
  std::string Ending(int columns);  // All that stays.
  double Seconds() const;           // Since OnStart().

  const Terminal terminal_;
  const bool color_;
  const StopGoal stop_;
  Clock::time_point began_ = Clock::now();
  std::optional<ScreenGuard> guard_;  // From OnStart() to OnEnd().
  absl::Mutex mutex_;
  Round round_ ABSL_GUARDED_BY(mutex_);
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // Last: it uses the others. Runs from OnStart() to OnEnd().
};

}  // namespace conclave::cli
