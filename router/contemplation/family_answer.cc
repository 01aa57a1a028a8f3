#include <algorithm>
#include <utility>

#include "common/answer/normalise.h"
#include "common/check.h"
#include "common/status.h"
#include "router/contemplation/course.h"
#include "router/contemplation/digest.h"

// From the end of the round to the end of the request.
namespace conclave::router {

// The stop rule is met at T = clock: whoever is not counted keeps what it had then.
void Contemplation::Course::Stop(int64_t clock) {
  WithdrawUnanswered();
  std::vector<Cut> cuts;
  for (const Agent& agent : agents_) {
    const AgentId id = agent.recipe.id;
    const Tally::State state = tally_.StateOf(id);
    if (state != Tally::State::kRuns && state != Tally::State::kEnded) continue;
    const int64_t kept = std::min<int64_t>(agent.transcript.count(), clock - tally_.StartOf(id));
    cuts.push_back({.agent = id, .kept = static_cast<int>(kept)});
  }
  CutAgents(cuts, CutReason::kSettled);
  KeepOutWaiting(clock);
  if (stage_ == Stage::kThink) EndRound(clock);
}

// A replay must know who never entered; so it is a decision too.
void Contemplation::Course::KeepOutWaiting(int64_t clock) {
  Decision narrow = NarrowOf(Waiting());
  narrow.clock = clock;
  if (narrow.agents.empty()) return;
  if (script_) {
    if (script_->next() == nullptr || *script_->next() != narrow) {
      return Differs(fmt::format("the stop rule is met at clock {}", clock));
    }
    script_->Take();
  }
  Record(narrow);
  for (AgentId id : narrow.agents) At(id).kept_out = true;
}

void Contemplation::Course::EndRound(int64_t clock) {
  resume_due_ = narrow_due_ = stream_due_ = absl::InfiniteFuture();
  // Nobody of it is sent again: what each was told may be as long as the conversation.
  for (Agent& agent : agents_) agent.recipe.messages.clear();
  if (round_.kind == Round::Kind::kSplit) return EndSplit();
  // Whoever was still to come when the stop rule was met could not have changed it.
  if (StandsBack(EndsByThemselves() + ToCome())) {
    BackToRoundBefore();
  } else if (counted_.empty()) {
    if (round_.kind == Round::Kind::kParts && Entered() == 0) return AskWhole();
    if (script_) return Differs("every agent is given up");
    return Fail(Unavailable("no agent of the round could go on"));
  } else if (Refines()) {
    return Refine();
  }
  if (round_.kind == Round::Kind::kParts) return StartJoining(clock);
  if (plan_.mode != Mode::kContemplating) {
    return AnswerBy(agents_.front(), /*incomplete=*/false, std::nullopt);
  }
  const Aggregation aggregation = plan_.request.aggregation;
  const bool open = aggregation == Aggregation::kAuto || aggregation == Aggregation::kCheck;
  const bool vote = aggregation == Aggregation::kVote ||
                    aggregation == Aggregation::kWeightedVote ||
                    (open && VoteIsSure(ballot_, static_cast<int>(Heard().size()),
                                        plan_.checker.has_value(), plan_.vote_weight));
  if (vote) {
    AnswerByVote(/*incomplete=*/false);
  } else {
    StartSynthesis(clock);
  }
}

// What was said by those that are heard.
std::vector<CountedAnswer> Contemplation::Course::AnswersHeard() const {
  std::vector<CountedAnswer> answers;
  for (AgentId id : Heard()) {
    const Agent& agent = At(id);
    answers.push_back({.agent = id,
                       .text = std::string(TrimSpace(AnswerOf(agent))),
                       .compared = agent.answer.has_value()});
  }
  return answers;
}

// Whether the last pass names a candidate. Of parts it joins the answers.
bool Contemplation::Course::Selects() const {
  return plan_.request.aggregation == Aggregation::kSelect && round_.kind == Round::Kind::kAnswer;
}

void Contemplation::Course::StartSynthesis(int64_t clock) {
  const std::vector<CountedAnswer> answers = AnswersHeard();
  candidates_ = Candidates(ballot_, answers, plan_.pass_profile().max_candidates);
  const size_t fewest = plan_.request.aggregation == Aggregation::kSynthesise ? 1 : 2;
  const bool passes = Selects()
                          ? CanSelect(plan_.pass_profile()) && Different(ballot_, answers) > 1
                          : CanSynthesise(plan_.pass_profile()) && candidates_.size() >= fewest;
  if (!passes) return AnswerByVote(/*incomplete=*/false);
  const auto messages = Selects() ? SelectionMessages : AggregationMessages;
  StartPass(messages(plan_.pass_profile(), plan_.request.messages,
                     Digest(candidates_, plan_.digest_bytes)),
            static_cast<int>(candidates_.size()), clock);
}

void Contemplation::Course::StartJoining(int64_t clock) {
  std::vector<PartAnswer> parts = PartAnswers();
  std::vector<std::string> answers;
  for (PartAnswer& part : parts) answers.push_back(std::move(part.answer));
  const bool none = std::all_of(answers.begin(), answers.end(),
                                [](const std::string& answer) { return answer.empty(); });
  if (none) return AnswerByParts();
  answers = Digest(std::move(answers), plan_.digest_bytes);
  for (size_t i = 0; i < parts.size(); ++i) parts[i].answer = std::move(answers[i]);
  StartPass(JoinMessages(plan_.pass_profile(), plan_.request.messages, parts),
            static_cast<int>(parts.size()), clock);
}

// A last agent that is asked with `messages`, and whose answer is the request's.
void Contemplation::Course::StartPass(std::vector<Message> messages, int candidates,
                                      int64_t clock) {
  int64_t left = plan_.total_tokens;
  for (const Agent& agent : agents_) left -= agent.kept.value_or(0);
  AgentRecipe recipe = plan_.synthesis;
  recipe.grant = static_cast<int>(std::min<int64_t>(recipe.grant, left));
  if (recipe.grant < 1) return AnswerByVote(/*incomplete=*/true);
  recipe.budget.min_tokens = std::min(recipe.budget.min_tokens, recipe.grant);
  if (recipe.thinking == Thinking::kOn) {
    // With less than it is used to, it thinks less, so that it comes to an answer.
    const int thought =
        recipe.grant - recipe.budget.answer_tokens - plan_.pass_profile().end_thinking_tokens;
    recipe.budget.thinking_tokens = std::clamp(thought, 1, recipe.budget.thinking_tokens);
  }
  recipe.messages = std::move(messages);
  const size_t place = Place(recipe.id);
  if (place <= round_.begin) ++round_.begin;  // Parts stand behind it.
  agents_.insert(agents_.begin() + static_cast<std::ptrdiff_t>(place),
                 Agent{.recipe = std::move(recipe), .seated = now_});
  tally_.Enter(plan_.synthesis.id, clock);
  stage_ = Stage::kSynthesise;
  EmitEvent(
      {}, AggregationStarted{.method = Selects() ? Aggregation::kSelect : Aggregation::kSynthesise,
                             .candidates = candidates,
                             .model = plan_.aggregator ? plan_.aggregator->model : ""});
  // One that waits for others' models too would wait for nothing.
  if (line_ == Line::kPlacing && places_.size() > 1) CloseAttempt();
  FinishOtherPlaces();
  plan_.aggregator ? MoveToAggregator() : SeekLine(1);
}

void Contemplation::Course::AdvanceSynthesis() {
  while (stage_ == Stage::kSynthesise && TakeFromScript()) {
  }
  if (stage_ != Stage::kSynthesise) return;
  Agent& synthesiser = Synthesiser();
  const AgentId id = synthesiser.recipe.id;
  if (tally_.StateOf(id) != Tally::State::kEnded) return;
  tally_.Count(id);
  synthesiser.kept = synthesiser.transcript.count();
  if (!Selects()) synthesiser.verdict = Judge(AnswerOf(synthesiser), KeyOf(synthesiser)).verdict;
  EmitFinished(synthesiser);
  EmitVerdict(synthesiser);
  if (Selects()) return AnswerByPick(synthesiser);
  if (first_answer_ == absl::InfiniteFuture()) return AnswerByVote(/*incomplete=*/true);
  AnswerBy(synthesiser, /*incomplete=*/LacksParts(), Aggregation::kSynthesise);
}

// The answer is the candidate that the pass names, as its first agent gave it.
void Contemplation::Course::AnswerByPick(const Agent& pass) {
  reached_ = std::max(reached_, tally_.ClockOf(pass.recipe.id));
  const std::optional<size_t> picked =
      Picked(pass.transcript.AnswerAt(*pass.kept), candidates_.size());
  if (!picked) return AnswerByVote(/*incomplete=*/false);
  for (AgentId id : Heard()) {
    const Agent& agent = At(id);
    if (TrimSpace(AnswerOf(agent)) == candidates_[*picked]) {
      return AnswerBy(agent, /*incomplete=*/false, Aggregation::kSelect);
    }
  }
  CHECK(false);  // Candidates are what agents said.
}

// Agents that were counted, in order. Those that their bar ended are heard only when there is no
// other.
std::vector<AgentId> Contemplation::Course::Heard() const {
  std::vector<AgentId> heard;
  for (AgentId id : counted_) {
    if (At(id).end != Finish::kBar) heard.push_back(id);
  }
  return heard.empty() ? counted_ : heard;
}

// Whose text may be the vote's answer, in order: who was accepted; the leader's voters; without
// votes, those that were counted; when no end was (or only such as the bar made), those that were
// cut before them.
std::vector<AgentId> Contemplation::Course::Speakers() {
  if (CheckDecides()) return {ballot_.accepted().front()};
  if (!ballot_.empty()) return ballot_.Voters().front();
  std::vector<AgentId> speakers = Heard();
  if (!speakers.empty() && At(speakers.front()).end != Finish::kBar) return speakers;
  std::vector<AgentId> cut = CutByClock();
  cut.insert(cut.end(), speakers.begin(), speakers.end());
  return cut;
}

// Agents of the round that were cut, in the order of their clocks.
std::vector<AgentId> Contemplation::Course::CutByClock() const {
  std::vector<AgentId> cut = tally_.In(Tally::State::kCut);
  std::erase_if(cut, [this](AgentId id) { return !InRound(id); });
  std::stable_sort(cut.begin(), cut.end(),
                   [this](AgentId a, AgentId b) { return tally_.ClockOf(a) < tally_.ClockOf(b); });
  return cut;
}

// Whose text is the vote's answer: the first speaker that voted or has a text. Null when there is
// none.
const Agent* Contemplation::Course::Spokesman() {
  if (round_.kind == Round::Kind::kSplit) return nullptr;
  for (AgentId id : Speakers()) {
    const Agent& agent = At(id);
    if (!ballot_.empty() || !TrimSpace(AnswerOf(agent)).empty()) {
      return &agent;
    }
  }
  return counted_.empty() ? nullptr : &At(Heard().front());
}

void Contemplation::Course::AnswerByVote(bool incomplete) {
  if (round_.kind == Round::Kind::kParts) return AnswerByParts();
  const Agent* agent = Spokesman();
  std::optional<Aggregation> method;
  if (plan_.mode == Mode::kContemplating) {
    const bool weighted = plan_.vote_weight != VoteWeight::kOne;
    method = CheckDecides() ? Aggregation::kCheck
             : weighted     ? Aggregation::kWeightedVote
                            : Aggregation::kVote;
    if (agent != nullptr) return AnswerBy(*agent, incomplete, method);
  }
  AnswerWithNothing(method);
}

// What is known of the parts, in lines: nobody has joined them.
void Contemplation::Course::AnswerByParts() {
  std::vector<PartAnswer> parts = PartAnswers();
  std::erase_if(parts, [](const PartAnswer& part) { return part.answer.empty(); });
  if (parts.empty()) return AnswerWithNothing(Aggregation::kVote);
  Result result = {.answer = PartLines(plan_.pass_profile(), parts),
                   .incomplete = true,
                   .method = Aggregation::kVote,
                   .critical_path = reached_};
  if (const auto verdict = Judge(result.answer, plan_.answer_key).verdict)
    result.accepted = verdict->accepted;
  first_answer_ = std::min(first_answer_, now_);
  EmitEvent(plan_.synthesis.id, AnswerDelta{.text = result.answer});
  Settle(std::move(result));
}

// Nobody has said anything yet. Who asked for the best answer so far gets that, and the bill.
void Contemplation::Course::AnswerWithNothing(std::optional<Aggregation> method) {
  if (!decisions_.empty() && decisions_.back().kind == Decision::Kind::kDeadline) {
    return Fail(DeadlineExceeded("there was no answer when the deadline came"));
  }
  Settle({.answer = {}, .incomplete = true, .method = method, .critical_path = reached_});
}

// An answer that is cut short, or whose agent did not end by itself, is incomplete.
void Contemplation::Course::AnswerBy(const Agent& agent, bool incomplete,
                                     std::optional<Aggregation> method) {
  const bool vote = method.has_value() && method != Aggregation::kSynthesise;
  const std::string_view text = AnswerOf(agent);
  Result result;
  result.answer = vote ? TrimSpace(text) : text;
  result.incomplete = incomplete || agent.end != Finish::kStop;
  result.method = method;
  // Of who voted, it is known: a check may take a while.
  const auto verdict = agent.verdict ? agent.verdict : Judge(text, KeyOf(agent)).verdict;
  if (verdict) result.accepted = verdict->accepted;
  result.critical_path = vote ? reached_ : tally_.ClockOf(agent.recipe.id);
  if (vote && !result.answer.empty()) {
    first_answer_ = std::min(first_answer_, now_);
    EmitEvent(agent.recipe.id, AnswerDelta{.text = result.answer});
  }
  Settle(std::move(result));
}

// The answer is known. Its bill is, once the family's totals are here.
void Contemplation::Course::Settle(Result result) {
  result_ = std::move(result);
  AwaitTotals();
}

void Contemplation::Course::AwaitTotals() {
  stage_ = Stage::kSettle;
  deadline_due_ = resume_due_ = reopen_due_ = narrow_due_ = absl::InfiniteFuture();
  if (line_ == Line::kOpen) return FinishLine();
  if (line_ == Line::kFinished) return;  // Its totals are on their way.
  CloseAttempt();
  Complete();
}

void Contemplation::Course::Complete() {
  CloseAttempt();
  if (!failure_.ok()) {
    out_.push_back(conclave::router::Fail{.why = failure_, .bill = MakeBill()});
    stage_ = Stage::kDone;
    return;
  }
  Receipt receipt = MakeReceipt();
  if (script_) {
    if (const Decision* next = script_->next(); next != nullptr) {
      return Differs(fmt::format("{} is never reached", NameOf(*next)));
    }
    const std::string& wanted = plan_.request.replay->result_hash;
    if (!wanted.empty() && wanted != receipt.result_hash) {
      return Differs(fmt::format("its result_hash is {}, not {}", receipt.result_hash, wanted));
    }
  }
  EmitEvent({}, Completed{.answer = result_.answer,
                          .incomplete = result_.incomplete,
                          .method = result_.method,
                          .accepted = result_.accepted,
                          .receipt = std::move(receipt),
                          .settings = plan_.settings});
  out_.push_back(Succeed{});
  stage_ = Stage::kDone;
}

Bill Contemplation::Course::MakeBill() const {
  Bill bill = {.probe_tokens = prompts_.probe_tokens(), .prompt = prompts_.usage()};
  for (const Agent& agent : agents_) bill.tokens += agent.transcript.count();
  return bill;
}

Receipt Contemplation::Course::MakeReceipt() {
  Receipt receipt;
  std::vector<KeptTokens> kept_tokens;
  for (const Agent& agent : agents_) {
    // Also one that was accepted when it was no longer wanted: its prompt is on the bill.
    if (!agent.kept && agent.prompt_tokens == 0) continue;
    AgentUsage usage;
    usage.agent = agent.recipe.id;
    usage.prompt_tokens = agent.prompt_tokens;
    usage.kept = agent.kept.value_or(0);
    usage.thinking = agent.transcript.ThinkingAt(usage.kept, agent.recipe.thinking);
    usage.discarded = agent.transcript.count() - usage.kept;
    usage.cut = !agent.end.has_value();
    if (agent.end) usage.reason = *agent.end, usage.stopped_by = agent.stopped_by;
    usage.thinking_forced = agent.transcript.ForcedAt(usage.kept);
    usage.cut_reason = agent.cut;
    usage.answer = agent.answer;
    usage.weight = agent.weight;
    if (agent.verdict) usage.accepted = agent.verdict->accepted;
    usage.probes_agreed = agent.agreed;
    usage.model = OtherName(agent.model);
    usage.lowest_window_confidence =
        agent.transcript.ConfidenceAt(usage.kept, plan_.confidence_window).top20().lowest();
    if (StageOf(usage.agent) == kAggregateStage) {
      receipt.aggregation_tokens += usage.kept;
    } else {
      receipt.thinking_tokens += usage.thinking;
      receipt.answer_tokens += usage.kept - usage.thinking;
    }
    receipt.discarded_tokens += usage.discarded;
    receipt.agents_cut += usage.cut ? 1 : 0;
    kept_tokens.push_back(
        {.agent = usage.agent, .transcript = &agent.transcript, .kept = usage.kept});
    receipt.agents.push_back(std::move(usage));
  }
  receipt.request_id = plan_.request.id;
  receipt.model = plan_.model;
  receipt.fingerprint = fingerprint_.value_or("");
  if (plan_.aggregator) {
    receipt.aggregator_model = plan_.aggregator->model;
    receipt.aggregator_fingerprint = plan_.aggregator->fingerprint;
  }
  receipt.agent_models = plan_.request.agent_models;
  for (size_t i = 0; i < receipt.agent_models.size(); ++i)
    receipt.agent_fingerprints.push_back(FingerprintOf(plan_.models[i]));
  receipt.decision_version = kDecisionVersion;
  receipt.seed = plan_.seed;
  receipt.time_of_day = plan_.time_of_day;
  receipt.votes = ballot_.Votes();
  receipt.result_hash = ResultHash(kept_tokens, receipt.votes, plan_.vote_weight, result_.answer);
  receipt.prompt = prompts_.usage();
  receipt.probe_tokens = prompts_.probe_tokens();
  receipt.critical_path_tokens = result_.critical_path;
  receipt.time_to_first_answer = std::min(first_answer_, now_) - started_;
  receipt.wall_time = now_ - started_;
  receipt.decisions = decisions_;
  receipt.resumes = resumes_;
  receipt.counts_from_stream = prompts_.incomplete();
  return receipt;
}

}  // namespace conclave::router
