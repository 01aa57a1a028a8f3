#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "router/contemplation/course.h"

// From the end of the round to the end of the request.
namespace conclave::router {
namespace {

std::string Stripped(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\f\v";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(kSpace) - begin + 1));
}

}  // namespace

// The stop rule was met at `clock`: everyone whose end is not counted keeps what it had by then.
void Contemplation::Course::Stop(int64_t clock) {
  WithdrawJoin();
  std::vector<Cut> cuts;
  for (const Agent& agent : agents_) {
    const AgentId id = agent.recipe.id;
    const Tally::State state = tally_.StateOf(id);
    if (state != Tally::State::kRuns && state != Tally::State::kEnded) continue;
    const int64_t kept = std::max<int64_t>(0, clock - tally_.StartOf(id));
    cuts.push_back(
        {.agent = id, .kept = static_cast<int>(std::min<int64_t>(kept, agent.transcript.count()))});
  }
  CutAgents(cuts, CutReason::kSettled);
  EndRound(clock);
}

void Contemplation::Course::KeepOutWaiting() {
  for (AgentId id : Waiting()) At(id).kept_out = true;
  narrow_due_ = absl::InfiniteFuture();
}

void Contemplation::Course::EndRound(int64_t clock) {
  KeepOutWaiting();
  if (plan_.mode != Mode::kContemplating) {
    const Agent& agent = agents_.front();
    return AnswerBy(agent, agent.end != Finish::kStop, std::nullopt);
  }
  const Aggregation wanted = plan_.request.aggregation;
  const bool vote =
      wanted == Aggregation::kVote ||
      (wanted == Aggregation::kAuto && VoteIsSure(ballot_, static_cast<int>(counted_.size())));
  if (vote) return AnswerByVote(/*incomplete=*/false);
  StartSynthesis(clock);
}

void Contemplation::Course::StartSynthesis(int64_t clock) {
  std::vector<CountedAnswer> counted;
  for (AgentId id : counted_) {
    const Agent& agent = At(id);
    counted.push_back({.agent = id,
                       .text = Stripped(agent.transcript.AnswerAt(*agent.kept)),
                       .compared = agent.answer.has_value()});
  }
  const auto candidates = Candidates(ballot_, counted, plan_.profile.max_candidates);
  int64_t left = plan_.total_tokens;
  for (const Agent& agent : agents_) left -= agent.kept.value_or(0);
  AgentRecipe recipe = plan_.synthesis;
  recipe.grant = static_cast<int>(std::min<int64_t>(recipe.grant, left));
  const size_t least = plan_.request.aggregation == Aggregation::kAuto ? 2 : 1;
  if (!CanSynthesise(plan_.profile) || candidates.size() < least || recipe.grant < 1) {
    return AnswerByVote(/*incomplete=*/false);
  }
  if (recipe.grant < plan_.synthesis.grant && recipe.thinking == Thinking::kOn) {
    const int answer = plan_.profile.end_thinking_tokens + recipe.budget.answer_tokens;
    recipe.budget.thinking_tokens =
        std::clamp(recipe.grant - answer, 1, std::max(1, recipe.budget.thinking_tokens));
  }
  recipe.messages = AggregationMessages(plan_.profile, plan_.request.messages, candidates);
  stage_ = Stage::kSynthesise;
  tally_.Enter(recipe.id, clock);
  agents_.push_back({.recipe = std::move(recipe)});
  EmitEvent(agents_.back().recipe.id,
            AggregationStarted{.method = Aggregation::kSynthesise,
                               .candidates = static_cast<int>(candidates.size())});
}

void Contemplation::Course::AdvanceSynthesis() {
  if (script_ && TakeFromScript()) return AdvanceSynthesisEnd();
  if (stage_ == Stage::kSynthesise) AdvanceSynthesisEnd();
}

// The synthesiser's own end, or the vote where it can't answer.
void Contemplation::Course::AdvanceSynthesisEnd() {
  if (stage_ != Stage::kSynthesise) return;
  const AgentId id = agents_.back().recipe.id;
  const Tally::State state = tally_.StateOf(id);
  if (state == Tally::State::kEnded) {
    CountEnd(id, /*look=*/false);
    const Agent& agent = agents_.back();
    if (agent.transcript.AnswerAt(*agent.kept).empty()) return AnswerByVote(/*incomplete=*/false);
    AnswerBy(agent, agent.end != Finish::kStop, Aggregation::kSynthesise);
  } else if (state == Tally::State::kCut) {
    AnswerByVote(/*incomplete=*/false);
  }
}

// Whose text a vote's answer is: the earliest counted agent of the leading answer; without votes
// the earliest one, by (clock, agent), that has a text.
const Contemplation::Course::Agent* Contemplation::Course::Spokesman() const {
  const auto find = [this](AgentId id) {
    return std::find_if(agents_.begin(), agents_.end(),
                        [id](const Agent& agent) { return agent.recipe.id == id; });
  };
  if (!ballot_.empty()) return &*find(ballot_.Voters().front().front());
  std::vector<AgentId> order = counted_;
  if (order.empty()) {
    order = tally_.In(Tally::State::kCut);
    std::stable_sort(order.begin(), order.end(), [this](AgentId a, AgentId b) {
      return tally_.ClockOf(a) < tally_.ClockOf(b);
    });
  }
  for (AgentId id : order) {
    const Agent& agent = *find(id);
    const bool thinker = StageOf(id) == kThinkStage;
    if (thinker && !Stripped(agent.transcript.AnswerAt(*agent.kept)).empty()) return &agent;
  }
  return nullptr;
}

void Contemplation::Course::AnswerByVote(bool incomplete) {
  if (const Agent* agent = Spokesman()) return AnswerBy(*agent, incomplete, Aggregation::kVote);
  if (incomplete)
    return Fail(DeadlineExceeded("no agent had an answer when the request was stopped"));
  Settle(
      {.answer = "", .incomplete = true, .method = Aggregation::kVote, .critical_path = reached_});
}

void Contemplation::Course::AnswerBy(const Agent& agent, bool incomplete,
                                     std::optional<Aggregation> method) {
  const std::string_view text = agent.transcript.AnswerAt(*agent.kept);
  Result result{.answer = {},
                .incomplete = incomplete,
                .method = method,
                .critical_path = std::max(reached_, tally_.ClockOf(agent.recipe.id))};
  if (Answers(agent)) {
    result.answer = std::string(text);  // It was streamed as it came.
    if (result.answer.empty() && incomplete && !agent.end) {
      return Fail(DeadlineExceeded("there was no answer yet when the request was stopped"));
    }
  } else {
    result.answer = Stripped(text);
    if (!result.answer.empty()) {
      first_answer_ = std::min(first_answer_, now_);
      EmitEvent({}, AnswerDelta{.text = result.answer});
    }
  }
  Settle(std::move(result));
}

// The answer is known. The family's totals are waited for, not for long.
void Contemplation::Course::Settle(Result result) {
  result_ = std::move(result);
  stage_ = Stage::kSettle;
  deadline_due_ = narrow_due_ = resume_due_ = reopen_due_ = absl::InfiniteFuture();
  if (line_ == Line::kOpen) {
    line_ = Line::kFinished;
    receipt_due_ = now_ + limits_.receipt_wait;
    out_.push_back(FinishRun{.attempt = attempt_});
  } else {
    Complete();
  }
}

void Contemplation::Course::Complete() {
  if (stage_ != Stage::kSettle) return;
  CloseAttempt();
  const Receipt receipt = MakeReceipt();
  if (script_) {
    if (const Decision* left = script_->next()) return Differs(NameOf(*left) + " was not reached");
    const std::string& expected = plan_.request.replay->result_hash;
    if (!expected.empty() && expected != receipt.result_hash) {
      return Differs(fmt::format("the result's hash is {:.12}, the receipt's {:.12}",
                                 receipt.result_hash, expected));
    }
  }
  EmitEvent({}, Completed{.answer = result_.answer,
                          .incomplete = result_.incomplete,
                          .method = result_.method,
                          .receipt = receipt});
  out_.push_back(Succeed{});
  stage_ = Stage::kDone;
}

Receipt Contemplation::Course::MakeReceipt() {
  Receipt receipt;
  receipt.request_id = plan_.request.id;
  receipt.model = plan_.model;
  receipt.fingerprint = fingerprint_.value_or("");
  receipt.decision_version = kDecisionVersion;
  receipt.seed = plan_.seed;
  receipt.time_of_day = plan_.time_of_day;
  receipt.prompt = prompts_.usage();
  std::vector<KeptTokens> kept_tokens;
  for (const Agent& agent : agents_) {
    if (!agent.entered && agent.transcript.count() == 0) continue;
    const int kept = agent.kept.value_or(0);
    const int thinking = agent.transcript.ThinkingAt(kept, agent.recipe.thinking);
    const bool cut = tally_.StateOf(agent.recipe.id) == Tally::State::kCut;
    const int discarded = agent.transcript.count() - kept;
    receipt.agents.push_back({.agent = agent.recipe.id,
                              .prompt_tokens = agent.prompt_tokens,
                              .kept = kept,
                              .thinking = thinking,
                              .discarded = discarded,
                              .cut = cut,
                              .reason = cut ? Finish::kStop : agent.end.value_or(Finish::kStop),
                              .answer = agent.answer});
    if (StageOf(agent.recipe.id) == kAggregateStage) {
      receipt.aggregation_tokens += kept;
    } else {
      receipt.thinking_tokens += thinking;
      receipt.answer_tokens += kept - thinking;
    }
    receipt.discarded_tokens += discarded;
    receipt.agents_cut += cut ? 1 : 0;
    kept_tokens.push_back(
        {.agent = agent.recipe.id, .transcript = &agent.transcript, .kept = kept});
  }
  receipt.critical_path_tokens = result_.critical_path;
  receipt.time_to_first_answer =
      first_answer_ == absl::InfiniteFuture() ? absl::ZeroDuration() : first_answer_ - started_;
  receipt.wall_time = now_ - started_;
  receipt.decisions = decisions_;
  receipt.votes = ballot_.Votes();
  receipt.resumes = resumes_;
  receipt.counts_from_stream = prompts_.incomplete();
  receipt.result_hash = ResultHash(kept_tokens, receipt.votes, result_.answer);
  return receipt;
}

}  // namespace conclave::router
