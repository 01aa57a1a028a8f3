#include "router/contemplation/decision_script.h"

#include <algorithm>
#include <set>

#include "common/status.h"

namespace conclave::router {
namespace {

using Kind = Decision::Kind;

const char* KindName(Kind kind) {
  switch (kind) {
    case Kind::kJoin:
      return "join";
    case Kind::kNarrow:
      return "narrow";
    case Kind::kDrop:
      return "drop";
    case Kind::kDeadline:
      return "deadline";
    case Kind::kStopNow:
      return "stop";
  }
  return "decision";
}

// Where each agent was named so far.
struct Named {
  std::set<AgentId> joined, kept_out, cut;
};

// Whether it is of a round.
bool IsThinker(AgentId agent, const DecisionScript::Cast& cast) {
  const int round = RoundOf(agent), index = IndexOf(agent);
  switch (StageOf(agent)) {
    case kThinkStage:
      return round <= cast.rounds && index < cast.agents;
    case kSplitStage:
      return cast.splits && round == 0 && index == 0;
    case kPartStage:
      return cast.splits && round < cast.agents && index < cast.agents;
    default:
      return false;
  }
}

absl::Status CheckAgents(const Decision& decision, const DecisionScript::Cast& cast, Named& named) {
  const bool stops = decision.kind == Kind::kDeadline || decision.kind == Kind::kStopNow;
  if (decision.agents.empty() && !stops) return InvalidArgument("names no agent");
  for (AgentId agent : decision.agents) {
    const bool thinker = IsThinker(agent, cast);
    const bool synthesiser = agent == MakeAgentId(kAggregateStage, 0, 0);
    if (!thinker && !(synthesiser && decision.kind == Kind::kDrop)) {
      return InvalidArgument("names agent {}", static_cast<uint32_t>(agent));
    }
    if (decision.kind == Kind::kDrop) {
      const bool has_cut = std::any_of(decision.cuts.begin(), decision.cuts.end(),
                                       [agent](const Cut& cut) { return cut.agent == agent; });
      if (!has_cut) return InvalidArgument("has no cut for agent {}", static_cast<uint32_t>(agent));
      continue;
    }
    auto& names = decision.kind == Kind::kJoin ? named.joined : named.kept_out;
    if (named.joined.contains(agent) || named.kept_out.contains(agent) ||
        !names.insert(agent).second) {
      return InvalidArgument("names agent {} again", static_cast<uint32_t>(agent));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckCuts(const Decision& decision, const DecisionScript::Cast& cast, int most,
                       Named& named) {
  if (decision.kind == Kind::kJoin || decision.kind == Kind::kNarrow) {
    return decision.cuts.empty() ? absl::OkStatus() : InvalidArgument("has cuts");
  }
  if (decision.kind == Kind::kDrop && decision.cuts.size() != decision.agents.size()) {
    return InvalidArgument("has {} cuts for {} agents", decision.cuts.size(),
                           decision.agents.size());
  }
  for (const Cut& cut : decision.cuts) {
    const auto id = static_cast<uint32_t>(cut.agent);
    if (!IsThinker(cut.agent, cast) && cut.agent != MakeAgentId(kAggregateStage, 0, 0)) {
      return InvalidArgument("cuts agent {}", id);
    }
    if (named.kept_out.contains(cut.agent) || !named.cut.insert(cut.agent).second) {
      return InvalidArgument("cuts agent {} again", id);
    }
    if (cut.kept < 0 || cut.kept > most) {
      return InvalidArgument("lets agent {} keep {} tokens; the limit is {}", id, cut.kept, most);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status DecisionScript::Check(const std::vector<Decision>& decisions, const Cast& cast,
                                   int most) {
  Named named;
  int64_t clock = 0;
  for (size_t i = 0; i < decisions.size(); ++i) {
    const Decision& decision = decisions[i];
    if (decision.number != static_cast<int>(i) + 1) {
      return InvalidArgument("decision {} has number {}", i + 1, decision.number);
    }
    if (decision.clock < clock) {
      return InvalidArgument("{} is earlier than clock {}", NameOf(decision), clock);
    }
    clock = decision.clock;
    absl::Status status = CheckAgents(decision, cast, named);
    if (status.ok()) status = CheckCuts(decision, cast, most, named);
    if (!status.ok()) return InvalidArgument("{} {}", NameOf(decision), MessageOf(status));
  }
  const bool stopped = !decisions.empty() && decisions.back().kind == Kind::kStopNow;
  const int first = cast.splits ? 1 : cast.first;
  for (int i = 0; i < first; ++i) {
    const AgentId agent = MakeAgentId(cast.splits ? kSplitStage : kThinkStage, 0, i);
    if (!named.joined.contains(agent) && !named.kept_out.contains(agent)) return absl::OkStatus();
  }
  if (stopped && named.joined.empty()) return absl::OkStatus();
  return InvalidArgument("let none of the {} agents begin", first);
}

std::optional<int> DecisionScript::CutOf(AgentId agent) const {
  for (const Decision& decision : decisions_) {
    for (const Cut& cut : decision.cuts) {
      if (cut.agent == agent) return cut.kept;
    }
  }
  return std::nullopt;
}

bool DecisionScript::Starts(AgentId agent) const {
  return std::none_of(decisions_.begin(), decisions_.end(), [agent](const Decision& decision) {
    return decision.kind != Kind::kDrop && std::find(decision.agents.begin(), decision.agents.end(),
                                                     agent) != decision.agents.end();
  });
}

std::string NameOf(const Decision& decision) {
  return fmt::format("decision {} ({} at clock {})", decision.number, KindName(decision.kind),
                     decision.clock);
}

}  // namespace conclave::router
