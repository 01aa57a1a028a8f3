#pragma once

#include <atomic>
#include <map>
#include <ostream>
#include <set>
#include <string>

#include "cli/record.h"
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
  // other calls; never waits for the terminal.
  virtual void OnStopping() {}
  // A stream broke, and another takes it up: what happened, in words. As an event of its own.
  virtual void OnBreak(const std::string& what);
  // The stream has ended, whether Completed came or not. What is known of a request without a
  // receipt is shown now. The last call.
  virtual void OnEnd() = 0;
};

// Shows nothing.
class SilentPrinter : public Printer {
 public:
  void On(const v1::GenerateResponse&) override {}
  void OnEnd() override {}
};

// Writes down what another one shows. Both outlive it.
class TranscribingPrinter : public Printer {
 public:
  TranscribingPrinter(Printer& shown, Transcript& transcript)
      : shown_(shown), transcript_(transcript) {}
  void OnStart() override { shown_.OnStart(); }
  void On(const v1::GenerateResponse& event) override {
    transcript_.On(event);
    shown_.On(event);
  }
  void OnStopping() override { shown_.OnStopping(); }
  void OnBreak(const std::string& what) override { shown_.OnBreak(what); }
  void OnEnd() override { shown_.OnEnd(); }

 private:
  Printer& shown_;
  Transcript& transcript_;
};

// One line of JSON for each event, as the proto names its fields.
class JsonPrinter : public Printer {
 public:
  explicit JsonPrinter(std::ostream& out) : out_(out) {}
  void On(const v1::GenerateResponse& event) override;
  // Not among the router's events when a program reads them.
  void OnBreak(const std::string&) override {}
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
  // Said with the next event.
  void OnStopping() override { stopping_ = true; }
  void OnEnd() override;

 private:
  void OnDelta(uint32_t agent, const v1::AgentDelta& delta);
  void OnToken(uint32_t agent, const v1::Token& token);
  void OnFinished(uint32_t agent, const v1::AgentFinished& finished);
  void OnVote(const v1::VoteUpdate& update);
  void OnProbe(uint32_t agent, const v1::ProbeAnswer& probe);
  void OnVerdict(uint32_t agent, const v1::CheckerVerdict& verdict);
  void OnCompleted(const v1::Completed& completed);
  void FlushLine(uint32_t agent);
  void Note(const std::string& line);

  const bool quiet_;
  std::atomic<bool> stopping_ = false;
  bool told_of_stopping_ = false;
  std::ostream& answer_;
  std::ostream& notes_;
  // What each agent wrote since its last line break.
  std::map<uint32_t, std::string> lines_;
  std::set<uint32_t> answering_;  // Agents whose thinking is over.
  bool answer_began_ = false;
  bool in_answer_line_ = false;  // The answer's last line is not over.
  Round round_;
};

}  // namespace conclave::cli
