#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/status/status.h>
#include <absl/synchronization/mutex.h>

#include <map>
#include <optional>
#include <vector>

#include "worker/engine/engine.h"

namespace conclave::worker {

// Keeps what a family was told, and aborts when it is told out of order: an agent without an
// answer to its Add, tokens after an end or with a gap, a second end, copies out of order. Any
// thread may look.
class RecordingSink : public FamilySink {
 public:
  struct Refusal {
    std::vector<AgentId> gang;
    absl::Status why;
    int width = 0;
  };

  // What a copy of an agent said.
  struct Probe {
    int at = 0;
    std::vector<TokenEvent> tokens;
    int count = 0;  // Tokens of the agent that were told before, fed ones included.
  };

  // Agents start at index `fed` if they bring tokens.
  void ExpectFed(AgentId agent, int fed);

  void OnAccepted(const std::vector<AgentId>& gang) override;
  void OnRefused(const std::vector<AgentId>& gang, const absl::Status& why, int width) override;
  void OnTokens(AgentId agent, int first, const std::vector<TokenEvent>& tokens,
                const std::optional<AgentEnd>& end) override;
  void OnProbe(AgentId agent, int at, const std::vector<TokenEvent>& tokens) override;
  void OnFamilyEnd(const FamilyCounters& counters) override;

  std::vector<TokenEvent> tokens(AgentId agent) const;  // Without fed ones.
  int count(AgentId agent) const;                       // Of tokens().
  std::optional<AgentEnd> end(AgentId agent) const;
  std::vector<Probe> probes(AgentId agent) const;
  std::vector<Refusal> refusals() const;
  std::optional<FamilyCounters> counters() const;
  int accepted() const;
  bool accepted(AgentId agent) const;

  // Each waits until it is so.
  FamilyCounters AwaitFamilyEnd() const;
  void AwaitAnswers(int adds) const;  // So many Adds were accepted or refused.
  void AwaitTokens(AgentId agent, int count) const;

 private:
  struct Agent {
    bool accepted = false;
    int fed = 0;
    std::vector<TokenEvent> tokens;
    std::optional<AgentEnd> end;
    std::vector<Probe> probes;
  };

  mutable absl::Mutex mutex_;
  std::map<AgentId, Agent> agents_ ABSL_GUARDED_BY(mutex_);
  int answers_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<Refusal> refusals_ ABSL_GUARDED_BY(mutex_);
  std::optional<FamilyCounters> counters_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace conclave::worker
