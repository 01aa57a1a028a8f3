#pragma once

#include <absl/status/status.h>

#include <memory>
#include <string>
#include <vector>

#include "common/family.h"

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

// One group, seen from the router. gRPC in production, in memory in tests.
class WorkerClient {
 public:
  virtual ~WorkerClient() = default;
  // `events` is shared with the stream until its last event.
  virtual std::unique_ptr<FamilyRun> Open(FamilyOpening opening,
                                          std::shared_ptr<FamilyEvents> events) = 0;
};

}  // namespace conclave::router
