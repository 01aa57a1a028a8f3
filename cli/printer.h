#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include <map>
#include <ostream>
#include <set>
#include <string>

#include "cli/round.h"
#include "conclave/v1/conclave.pb.h"

namespace conclave::cli {

// Shows a stream's events. One thread, but for OnStopping().
class Printer {
 public:
  virtual ~Printer() = default;
  // The request is about to be sent. The first call.
  virtual void OnStart() {}
  virtual void On(const v1::GenerateResponse& event) = 0;
  // The person asked for the end (Ctrl-C); what is under way may still come. Any thread, beside the
  // other calls.
  virtual void OnStopping() {}
  // The stream has ended, whether Completed came or not. What is known of a request without a
  // receipt is shown now. The last call.
  virtual void OnEnd() = 0;
};

// One line of JSON for each event, as the proto names its fields.
class JsonPrinter : public Printer {
 public:
  explicit JsonPrinter(std::ostream& out) : out_(out) {}
  void On(const v1::GenerateResponse& event) override;
  void OnEnd() override {}

 private:
  std::ostream& out_;
};

// Lines of text: what agents do goes to `notes` as whole lines, each with its agent's name; the
// answer alone goes to `answer` as it comes; the receipt follows on `notes`. Control characters in
// what a model wrote are shown as '?', so that it cannot steer the reader's terminal.
class TextPrinter : public Printer {
 public:
  TextPrinter(std::ostream& answer, std::ostream& notes, bool quiet)
      : quiet_(quiet), answer_(answer), notes_(notes) {}
  void On(const v1::GenerateResponse& event) override;
  void OnStopping() override;
  void OnEnd() override;

 private:
  void Show(const v1::GenerateResponse& event) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnDelta(uint32_t agent, const v1::AgentDelta& delta) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnFinished(uint32_t agent, const v1::AgentFinished& finished)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnVote(const v1::VoteUpdate& update) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void OnCompleted(const v1::Completed& completed) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void FlushLine(uint32_t agent) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Note(const std::string& line) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const bool quiet_;
  absl::Mutex mutex_;
  std::ostream& answer_ ABSL_GUARDED_BY(mutex_);
  std::ostream& notes_ ABSL_GUARDED_BY(mutex_);
  // What each agent wrote since its last line break.
  std::map<uint32_t, std::string> lines_ ABSL_GUARDED_BY(mutex_);
  std::set<uint32_t> answering_ ABSL_GUARDED_BY(mutex_);  // Agents whose thinking is over.
  bool answer_began_ ABSL_GUARDED_BY(mutex_) = false;
  Round round_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace conclave::cli
