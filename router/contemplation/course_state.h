#pragma once

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "router/contemplation/agent.h"
#include "router/contemplation/ballot.h"
#include "router/contemplation/decision_script.h"
#include "router/contemplation/event.h"
#include "router/contemplation/plan.h"
#include "router/contemplation/receipt.h"
#include "router/contemplation/tally.h"

namespace conclave::router {

// What is known of one request while it runs. It knows no rule: Contemplation::Course (course.h)
// moves it.
class CourseState {
 protected:
  CourseState(Plan plan, const Limits& limits) : plan_(std::move(plan)), limits_(limits) {}

  enum class Stage : uint8_t {
    kNew,
    kThink,       // The agents of the round.
    kSynthesise,  // The aggregation pass.
    kSettle,      // The answer, or why there is none, is known; the family's totals are awaited.
    kDone,
  };
  // Agents that are asked the same, or each a part of it; what they said is counted together.
  struct Round {
    enum class Kind : uint8_t {
      kAnswer,  // The question.
      kSplit,   // One agent: what its parts are.
      kParts,   // Those parts.
    };
    Kind kind = Kind::kAnswer;
    int number = 0;              // Of kAnswer, from 0: that of its agents.
    size_t begin = 0, size = 0;  // Its agents, in agents_.
  };
  // What a round came to.
  struct Counted {
    Round round;
    Ballot ballot;
    std::vector<AgentId> agents;
  };
  struct Part {
    std::string text;
    Ballot ballot;
    std::vector<AgentId> counted;
  };
  enum class Line : uint8_t { kNone, kPlacing, kOpen, kFinished };
  // What stands in an agent's answer, and what the checker says of it.
  struct Judged {
    std::optional<std::string> answer;
    std::optional<Verdict> verdict;
  };
  struct Result {
    std::string answer;
    bool incomplete = false;
    std::optional<Aggregation> method;
    std::optional<bool> accepted = {};
    int64_t critical_path = 0;
  };

  // Where an agent is, or would be, among agents_; the one that is known to be there.
  size_t Place(AgentId id) const;
  Agent& At(AgentId id) { return agents_[Known(id)]; }
  const Agent& At(AgentId id) const { return agents_[Known(id)]; }
  size_t Known(AgentId id) const;
  Agent* Find(AgentId id);
  Agent& Synthesiser() { return At(plan_.synthesis.id); }
  const Agent& Synthesiser() const { return At(plan_.synthesis.id); }
  bool Runs(const Agent& agent) const;
  bool AnyEntered() const;
  std::vector<AgentId> Unanswered() const;
  bool TakeOff(int place, const std::vector<AgentId>& gang);
  std::map<int, std::vector<AgentId>> ByPlace(const std::vector<AgentId>& agents) const;
  absl::Status CheckPlaced(const Placed& placed) const;
  // Of agents of that model, and its name where it isn't the request's.
  std::string FingerprintOf(int model) const;
  std::string OtherName(int model) const;

  const Plan plan_;
  const Limits limits_;
  std::vector<Command> out_;

  Stage stage_ = Stage::kNew;
  std::vector<Agent> agents_;  // Of all rounds so far and, once it runs, the synthesiser; by id.
  Tally tally_;
  Round round_;                   // What follows is of this round.
  Ballot ballot_;                 // Of kAnswer.
  std::vector<Part> parts_;       // Of kParts.
  std::vector<AgentId> counted_;  // In order of counting.
  int rounds_opened_ = 0;
  int planned_ = 0;  // N: the round's agents less those kept out by a Narrow.
  int dropped_ = 0;
  std::optional<Counted> before_;  // What the round before found, when it was the question's.
  int64_t reached_ = 0;            // Greatest clock of a counted end, or of a cut agent that voted.
  std::vector<Decision> decisions_;
  std::optional<DecisionScript> script_;  // Of a replay; then the clock decides nothing.

  int attempt_ = 0;
  Line line_ = Line::kNone;
  std::vector<PlaceWanted> places_;         // Of the attempt.
  int places_left_ = 0;                     // The first ones, that are not finished.
  std::optional<std::string> fingerprint_;  // Of the first group; then the only one that will do.
  std::string words_;                       // Of the group that serves.
  int credits_ = 0;
  double load_ = 0;     // Of the group that serves, by what others do to it: LoadLevel.
  int gang_limit_ = 0;  // Most agents of a gang, after refusals; 0 = any.
  // Agents enter by waves: the first opened_ of the round may have entered.
  std::deque<int> to_open_;  // Widths of the waves that follow.
  size_t opened_ = 0;
  int64_t opened_at_ = 0;                   // Where those start that find room at once.
  bool gang_entered_ = false;               // Of the wave that was opened last.
  std::vector<AgentId> join_;               // The gang that is on its way late.
  int no_room_ = -1;                        // The model whose gang was refused last.
  std::deque<std::vector<AgentId>> asked_;  // Gangs sent on the live attempt, not answered yet.
  PromptBill prompts_;
  int losses_ = 0, resumes_ = 0;  // Losses since the last new token; resumptions in all.
  bool returning_ = false;        // A loss was not made good yet.

  absl::Time now_ = absl::InfinitePast();
  absl::Time started_, first_answer_ = absl::InfiniteFuture();
  absl::Time deadline_due_ = absl::InfiniteFuture();
  absl::Time place_due_ = absl::InfiniteFuture();   // Then the minimum will do.
  int least_ = 1;                                   // That minimum.
  absl::Time reopen_due_ = absl::InfiniteFuture();  // Then a group is looked for again.
  absl::Time narrow_due_ = absl::InfiniteFuture();
  absl::Time resume_due_ = absl::InfiniteFuture();
  absl::Time stream_due_ = absl::InfiniteFuture();  // Then a group must have answered a gang.
  absl::Time retry_due_ = absl::InfinitePast();     // Before it, nothing is sent without credits.
  absl::Time receipt_due_ = absl::InfiniteFuture();
  absl::Time wake_ = absl::InfiniteFuture();  // As the driver knows it.
  std::vector<std::string> candidates_;       // Of the aggregation pass.
  Result result_;
  absl::Status failure_;  // Not OK: there is no answer, and this is why.
};

}  // namespace conclave::router
