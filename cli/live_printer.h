#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include <chrono>
#include <string>
#include <thread>

#include "cli/printer.h"
#include "cli/round.h"
#include "cli/screen.h"
#include "cli/terminal.h"

namespace conclave::cli {

// Shows a request at a terminal as it runs: a thread draws it again at most ten times a second.
// At the end the agents, the vote, the answer and the receipt stay.
// Its own calls come from one thread; only OnEnd() waits for the terminal.
class LivePrinter : public Printer {
 public:
  LivePrinter(const Terminal& terminal, bool color, std::string stop_rule);
  ~LivePrinter() override;
  void OnStart() override;
  void On(const v1::GenerateResponse& event) override;
  void OnEnd() override;

 private:
  using Clock = std::chrono::steady_clock;

  void Draw();
  void Stop();
  ViewTitle Title() const;

  const Terminal terminal_;
  const std::string stop_rule_;
  Clock::time_point began_ = Clock::now();
  Screen screen_;  // The drawing thread's; after Stop() the caller's.
  absl::Mutex mutex_;
  Round round_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;  // Last: it uses the others. Runs from OnStart() to OnEnd().
};

}  // namespace conclave::cli
