#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <string>
#include <variant>
#include <vector>

#include "common/family.h"
#include "conclave/v1/worker.pb.h"

// worker.proto <-> common/family.h. ToWire trusts what it is given. FromWire checks all that a peer
// could get wrong (lengths, ranges, enums, counts that must agree) and answers kInvalidArgument
// with the field's path.
namespace conclave {

// What a router says on a family's stream. The first is the opening, and no other is.
struct CancelAgents {
  std::vector<AgentId> agents;
};
struct RaiseRunTo {
  std::vector<AgentId> agents;
  std::vector<int> counts;  // One for each agent.
};
using FamilyCommand =
    std::variant<FamilyOpening, std::vector<AgentRecipe>, CancelAgents, RaiseRunTo>;

// What a worker says.
struct GangAccepted {
  std::vector<AcceptedAgent> agents;
};
struct GangRefused {
  std::vector<AgentId> agents;
  absl::Status why;
  int width = 0;  // kOutOfRange: how many of these agents would fit.
};
using FamilyEvent = std::variant<GangAccepted, GangRefused, FamilyDelta, ProbeResult, FamilyTotals>;

v1::RunRequest ToWire(const FamilyCommand& command);
absl::StatusOr<FamilyCommand> FromWire(const v1::RunRequest& request);

v1::RunResponse ToWire(const FamilyEvent& event);
absl::StatusOr<FamilyEvent> FromWire(const v1::RunResponse& response);

v1::WatchLoadResponse ToWire(const GroupLoad& load);
absl::StatusOr<GroupLoad> FromWire(const v1::WatchLoadResponse& load);

v1::Thinking ToWire(Thinking thinking);
absl::StatusOr<Thinking> FromWire(v1::Thinking thinking);

}  // namespace conclave
