#pragma once

#include <absl/time/time.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "router/contemplation/aggregation.h"
#include "router/contemplation/course_state.h"
#include "router/contemplation/family.h"

namespace conclave::router {

// The rules that move one request. What happens in token time is the tally's; what happens on the
// stream is each agent's seat. Who runs without a seat is to be sent: that is all of resuming.
class Contemplation::Course : private CourseState {
 public:
  Course(Plan plan, const Limits& limits);

  std::vector<Command> On(const Event& event);

 private:
  // family.cc: events and time.
  void Visit(const Started&);
  void Visit(const Tick&) {}
  void Visit(const ClientGone&);
  void Visit(const StopRequested&);
  void FireTimers();
  void SetTimer();
  absl::Time NextDue() const;
  void Progress();

  // family_stragglers.cc: who holds others back, and for how long.
  std::vector<Waiter> Waiters() const;
  absl::Time HoldsSince(const Agent& agent, const std::vector<Waiter>& waiters) const;
  absl::Time StragglerDue() const;
  void DropStragglers();

  // family_groups.cc: attempts.
  void Visit(const Placed& placed);
  void Visit(const PlacementFailed& failed);
  void Visit(const CreditsChanged& changed);
  void Visit(const FamilyEnded& ended);
  void Visit(const Lost& lost);
  void Admit(const std::string& fingerprint);
  void OpenAttempt(int agents, int least);
  void CloseAttempt();
  void Break(const absl::Status& why);
  void LoseLine(const absl::Status& why, int place = 0);
  void Requeue();
  void Return(const absl::Status& why);
  void GiveUpLost(std::string_view why);
  void MarkResumed();
  bool ByAggregator() const;
  std::vector<PlaceWanted> PlacesFor(int agents, int least) const;
  int LastModel() const;
  void MoveToAggregator();
  void SeekAggregator();
  void FinishLine();
  void FinishOtherPlaces();

  // family_gangs.cc: who is sent, and what the worker says to it.
  void Visit(const Accepted& accepted);
  void Visit(const Refused& refused);
  void SendAgents();
  void SendWave();
  void SendReturning(const std::vector<AgentId>& unsent);
  void SendJoin();
  void Send(const std::vector<AgentId>& agents);
  void AcceptJoin();
  void FirstGangRefused(const Refused& refused);
  void JoinRefused(const Refused& refused);
  void ReturningRefused(const Refused& refused);
  void NarrowTo(const Refused& refused, int width);
  void WithdrawUnanswered();
  void Cancel(const std::vector<AgentId>& agents);
  void RaiseLeads();
  int RunTo(const Agent& agent) const;
  int Allowance() const;
  bool InFlight() const;
  bool OpensTheRequest() const;
  void WaitForRoom();
  std::vector<AgentId> Unsent() const;
  std::vector<AgentId> Waiting() const;

  // family_waves.cc: agents that enter at a token time, without a decision.
  void OpenWave(int64_t clock);
  bool WaveIsWorthIt() const;
  bool WaveWaits() const;
  int Entered() const;
  double Certainty() const;
  std::vector<AgentId> ToEnter() const;
  void NarrowWaiting();
  std::vector<AgentId> Dispensable(std::vector<AgentId> agents) const;
  void WaveRefused(const Refused& refused);
  void RefusedApart(const Refused& refused);
  bool ToldApart() const;
  void NoteLoad(int credits, int running, int places);
  int MayEnter() const;

  // family_rounds.cc: which agents answer what, one round after another.
  void OpenRound(Round round, std::vector<AgentRecipe> recipes, const std::vector<int>& waves);
  void OpenFirstRound();
  void SeekLine(int agents);
  bool InRound(AgentId id) const;
  bool AnyOfRoundEntered() const;
  int Least() const;
  int EndsByThemselves() const;
  int FewestToSpeak() const;
  bool StandsBack(int heard) const;
  bool Refines() const;
  std::vector<AgentRecipe> RefiningAgents() const;
  void Refine();
  void BackToRoundBefore();
  void EndSplit();
  void AskWhole();
  std::vector<PartAnswer> PartAnswers() const;
  bool LacksParts() const;

  // family_tokens.cc: what agents say, and the counting of their ends.
  void Visit(const Delta& delta);
  absl::Status Take(Agent& agent, const FamilyDelta& delta);
  void EmitDelta(const Agent& agent, const Transcript::Fresh& fresh);
  bool Answers(const Agent& agent) const;
  void EmitFinished(const Agent& agent);
  TraceConfidence ConfidenceOf(const Agent& agent) const;
  void AdvanceRound();
  void CountEnd(AgentId id, bool look);
  bool LookAtStopRule(int64_t clock);
  void CutAgents(const std::vector<Cut>& cuts, CutReason reason);
  int ToCome() const;
  void EmitVotes();

  // family_verdicts.cc: what an agent's answer is worth.
  const std::optional<AnswerKey>& KeyOf(const Agent& agent) const;
  Judged Judge(std::string_view text, const std::optional<AnswerKey>& key) const;
  void CastVote(Agent& agent);
  void CastPart(Agent& agent);
  void EmitVerdict(const Agent& agent);
  bool CheckDecides() const;

  // family_probes.cc: what copies of agents say.
  void Visit(const Probed& probed);
  absl::Status Hear(Agent& agent, const ProbeResult& probe);
  void EndAgreed(Agent& agent);
  std::string_view AnswerOf(const Agent& agent) const;

  // family_decisions.cc: decisions taken, and taken again.
  Decision NewDecision(Decision::Kind kind) const;
  Decision NarrowOf(std::vector<AgentId> agents) const;
  void Record(const Decision& decision);
  void Narrow(const Decision& decision);
  void Drop(const Decision& decision);
  void GiveUp(const std::vector<AgentId>& agents);
  void StopNow(Decision::Kind kind);
  void ApplyStop(const Decision& decision);
  bool TakeFromScript();
  bool Stuck() const;
  bool CutsReached(const Decision& decision);
  bool NamesWhoMayEnter(const Decision& decision);
  void HearCutAgents();
  void Differs(const std::string& what);
  bool EnoughWithout(const std::vector<AgentId>& agents) const;

  // family_answer.cc: from the end of the round to the end of the request.
  void Stop(int64_t clock);
  void EndRound(int64_t clock);
  void KeepOutWaiting(int64_t clock);
  void StartSynthesis(int64_t clock);
  void AdvanceSynthesis();
  void AnswerByPick(const Agent& pass);
  bool Selects() const;
  void AnswerByVote(bool incomplete);
  void StartPass(std::vector<Message> messages, int candidates, int64_t clock);
  void StartJoining(int64_t clock);
  void AnswerByParts();
  void AnswerWithNothing(std::optional<Aggregation> method);
  std::vector<CountedAnswer> AnswersHeard() const;
  std::vector<AgentId> Heard() const;
  std::vector<AgentId> Speakers();
  std::vector<AgentId> CutByClock() const;
  const Agent* Spokesman();
  void AnswerBy(const Agent& agent, bool incomplete, std::optional<Aggregation> method);
  void Settle(Result result);
  void AwaitTotals();
  void Complete();
  Receipt MakeReceipt();
  Bill MakeBill() const;
  void Fail(const absl::Status& why);

  void EmitEvent(AgentId agent, decltype(ClientEvent::what) what) {
    out_.push_back(Emit{.event = {.sequence = 0, .agent = agent, .what = std::move(what)}});
  }
};

}  // namespace conclave::router
