#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/family.h"
#include "common/model_description.h"
#include "common/prompt.h"

namespace conclave::router {

// What happens to a family on one group. Called from any thread, one call at a time, in order; must
// not block and must not destroy the FamilyRun from within a call. Ends with exactly one of
// OnFamilyEnd and OnLost.
class FamilyEvents {
 public:
  virtual ~FamilyEvents() = default;
  virtual void OnAccepted(std::vector<AcceptedAgent> gang) = 0;
  // kResourceExhausted: no room now. kOutOfRange: more than the empty pool holds; `width` of these
  // agents would fit.
  virtual void OnRefused(std::vector<AgentId> gang, absl::Status why, int width) = 0;
  virtual void OnDelta(FamilyDelta delta) = 0;
  virtual void OnProbe(ProbeResult probe) = 0;
  virtual void OnFamilyEnd(FamilyTotals totals) = 0;
  // The stream ended without FamilyEnd: the group is lost (or refused the opening), as far as this
  // family is concerned.
  virtual void OnLost(absl::Status why) = 0;
};

// One family on one group. Thread-safe; commands are sent in order and never block. The destructor
// cancels the stream; after it returns, no event is delivered any more.
class FamilyRun {
 public:
  virtual ~FamilyRun() = default;
  virtual void Add(std::vector<AgentRecipe> gang) = 0;
  virtual void Cancel(std::vector<AgentId> agents) = 0;
  virtual void RunTo(std::vector<AgentId> agents, std::vector<int> counts) = 0;
  virtual void Finish() = 0;  // No agent will follow.
};

// What a group says about itself when it is met, and after each time it was formed anew.
struct GroupDescription {
  ModelDescription model;
  int64_t epoch = 0;
  std::string last_loss;  // Why it was last lost; empty when it never was.
};

// What a watched group says. Called from any thread, one call at a time; must not block and must
// not destroy the watch.
class GroupEvents {
 public:
  virtual ~GroupEvents() = default;
  virtual void OnDescribed(GroupDescription description) = 0;
  virtual void OnLoad(GroupLoad load) = 0;
  // It can't be reached now. It is tried again, and described again when it is back.
  virtual void OnGone(absl::Status why) = 0;
};

// Watches while it lives; after its destructor returns, no event is delivered any more.
class GroupWatch {
 public:
  virtual ~GroupWatch() = default;
};

// Asks what messages are, rendered for generation.
struct PromptQuestion {
  std::vector<Message> messages;
  Thinking thinking = Thinking::kOff;
  int64_t time_of_day = 0;
};

// One group, seen from the router. gRPC in production, in memory in tests. Thread-safe.
class WorkerClient {
 public:
  virtual ~WorkerClient() = default;
  // `events` is shared with the stream until its last event.
  virtual std::unique_ptr<FamilyRun> Open(FamilyOpening opening,
                                          std::shared_ptr<FamilyEvents> events) = 0;
  // `events` must outlive the watch. Events may come before the call returns.
  virtual std::unique_ptr<GroupWatch> Watch(GroupEvents& events) = 0;
  // How many tokens they are, and what a model sees of them. Call `done` once, from any thread.
  virtual void Count(PromptQuestion question, std::function<void(absl::StatusOr<int>)> done) = 0;
  virtual void Render(PromptQuestion question,
                      std::function<void(absl::StatusOr<Prompt>)> done) = 0;
};

}  // namespace conclave::router
