#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/status.h"
#include "tests/unit/router/contemplation/history.h"

namespace conclave::router {
namespace {

std::string JoinedAnswer(const FakeStream& stream, AgentId agent, int count) {
  return stream.Cut(agent, 0, count).answer;
}

}  // namespace

void Watcher::See(const std::vector<Command>& commands, absl::Time now) {
  for (const Command& command : commands) {
    ASSERT_EQ(ends_, 0) << "a command after the end";
    if (const auto* emit = std::get_if<Emit>(&command)) {
      ASSERT_FALSE(closed_by_completed_) << "an event after Completed";
      closed_by_completed_ = std::holds_alternative<Completed>(emit->event.what);
      outbox_.Push(emit->event);
      if (const auto* cut = std::get_if<AgentCut>(&emit->event.what)) {
        held_[emit->event.agent] = cut->kept;
        out_.insert(emit->event.agent);
      } else if (const auto* finished = std::get_if<AgentFinished>(&emit->event.what)) {
        held_[emit->event.agent] = finished->tokens;
        out_.insert(emit->event.agent);
      } else if (const auto* decision = std::get_if<Decision>(&emit->event.what)) {
        if (decision->kind == Decision::Kind::kNarrow) {
          out_.insert(decision->agents.begin(), decision->agents.end());
          for (const AgentId agent : decision->agents) held_.erase(agent);
        }
      }
    } else if (const auto* open = std::get_if<OpenRun>(&command)) {
      SeeOpen(*open);
    } else if (const auto* gang = std::get_if<AddGang>(&command)) {
      SeeGang(*gang);
    } else if (const auto* wake = std::get_if<WakeAt>(&command)) {
      ASSERT_GT(wake->time, now) << "a timer in the past";
      wake_ = wake->time;
    } else if (const auto* fail = std::get_if<Fail>(&command)) {
      ++ends_;
      status_ = fail->why;
      bill_ = fail->bill;
      ASSERT_FALSE(status_.ok());
      ASSERT_FALSE(closed_by_completed_) << "an error after Completed";
    } else if (std::holds_alternative<Succeed>(command)) {
      ++ends_;
      ASSERT_TRUE(closed_by_completed_) << "OK without Completed";
    }
  }
  CheckBudget();
}

void Watcher::SeeOpen(const OpenRun& open) {
  places_ = open.places;
  ASSERT_FALSE(places_.empty());
  std::set<std::string> models;
  for (const PlaceWanted& place : places_) {
    ASSERT_TRUE(models.insert(place.model).second) << "two places of one model";
    ASSERT_GE(place.agents, place.least);
    ASSERT_GE(place.least, 1);
    std::string wanted = plan_.fingerprint;
    if (plan_.aggregator && place.model == plan_.aggregator->model)
      wanted = plan_.aggregator->fingerprint;
    for (const OtherModel& other : plan_.others)
      if (place.model == other.model) wanted = other.fingerprint;
    ASSERT_EQ(place.fingerprint, wanted) << "not where it may run";
  }
}

// Each runs where its model is served: a pass of another model nowhere else, and nobody else there.
void Watcher::SeeGang(const AddGang& gang) {
  ASSERT_FALSE(gang.agents.empty());
  ASSERT_LT(static_cast<size_t>(gang.place), places_.size());
  const std::string& model = places_[static_cast<size_t>(gang.place)].model;
  for (const AgentRecipe& recipe : gang.agents) {
    std::string wanted = plan_.model;
    if (plan_.aggregator && StageOf(recipe.id) == kAggregateStage) wanted = plan_.aggregator->model;
    if (StageOf(recipe.id) == kThinkStage && !plan_.request.agent_models.empty())
      wanted = plan_.request.agent_models[static_cast<size_t>(IndexOf(recipe.id)) %
                                          plan_.request.agent_models.size()];
    // Which part has whom, its size says: it is always the same, below.
    if (StageOf(recipe.id) == kPartStage) wanted = model;
    ASSERT_EQ(model, wanted);
    ASSERT_EQ(models_.try_emplace(recipe.id, model).first->second, model) << "it was another's";
    held_[recipe.id] = recipe.grant;
    CheckRound(recipe.id);
    CheckWave(recipe.id);
  }
}

// Nobody is sent before all that were sent in the rounds before his are counted, cut or kept out.
void Watcher::CheckRound(AgentId agent) {
  const auto turn = [](AgentId id) {
    const int stage = StageOf(id);
    return stage == kSplitStage ? 0 : stage == kAggregateStage ? 999 : 1 + RoundOf(id);
  };
  for (const auto& [other, tokens] : held_) {
    const bool parts = StageOf(agent) == kPartStage && StageOf(other) == kPartStage;
    ASSERT_TRUE(parts || turn(other) >= turn(agent) || out_.contains(other))
        << "a round before its time";
  }
}

// The same for the waves of a round.
void Watcher::CheckWave(AgentId agent) {
  if (StageOf(agent) != kThinkStage) return;
  size_t before = 0;
  for (const int wave : plan_.waves) {
    if (before + static_cast<size_t>(wave) > static_cast<size_t>(IndexOf(agent))) break;
    before += static_cast<size_t>(wave);
  }
  for (size_t i = 0; i < before; ++i) {
    const AgentId other = MakeAgentId(kThinkStage, RoundOf(agent), static_cast<int>(i));
    ASSERT_TRUE(out_.contains(other)) << "a wave before its time";
  }
}

void Watcher::CheckBudget() {
  int64_t held = 0, reserve = plan_.aggregation_reserve;
  for (const auto& [agent, tokens] : held_) {
    held += tokens;
    if (StageOf(agent) == kAggregateStage) reserve = 0;
  }
  ASSERT_LE(held + reserve, plan_.total_tokens) << "the budget is exceeded";
}

void Watcher::Read() {
  if (const std::optional<ClientEvent> event = outbox_.Pop()) ReadEvent(*event);
}

void Watcher::ReadEvent(const ClientEvent& event) {
  ASSERT_EQ(event.sequence, ++sequence_);
  ASSERT_FALSE(complete_read_);
  const bool admitted = std::holds_alternative<Admitted>(event.what);
  ASSERT_NE(admitted, admitted_) << "Admitted is the first event, and no other is";
  admitted_ = true;
  if (const auto* delta = std::get_if<AgentDelta>(&event.what)) {
    ReadDelta(event.agent, *delta);
  } else if (const auto* answer = std::get_if<AnswerDelta>(&event.what)) {
    ASSERT_FALSE(answer->text.empty());
    answer_ += answer->text;
  } else if (const auto* decision = std::get_if<Decision>(&event.what)) {
    ReadDecision(*decision);
  } else if (const auto* finished = std::get_if<AgentFinished>(&event.what)) {
    ASSERT_TRUE(kept_.emplace(event.agent, finished->tokens).second) << "an agent ended twice";
    ASSERT_TRUE(finished->reason != Finish::kBar || !finished->answer) << "a dropped agent voted";
  } else if (const auto* update = std::get_if<VoteUpdate>(&event.what)) {
    const std::vector<Vote>& votes = update->votes;
    const double lead =
        votes.empty() ? 0 : votes[0].weight - (votes.size() < 2 ? 0 : votes[1].weight);
    if (plan_.stop.rule == StopRule::kSettled) {
      ASSERT_EQ(update->stop_value, lead - update->to_come);
    }
  } else if (const auto* verdict = std::get_if<CheckerVerdict>(&event.what)) {
    ASSERT_TRUE(kept_.contains(event.agent)) << "a verdict on an answer that goes on";
    ASSERT_TRUE(verdicts_.emplace(event.agent, verdict->accepted).second) << "a second verdict";
    ASSERT_EQ(verdict->accepted, verdict->reason.empty());
  } else if (const auto* cut = std::get_if<AgentCut>(&event.what)) {
    ASSERT_TRUE(kept_.emplace(event.agent, cut->kept).second) << "an agent ended twice";
  } else if (const auto* completed = std::get_if<Completed>(&event.what)) {
    ReadCompleted(*completed);
  }
}

void Watcher::ReadDelta(AgentId agent, const AgentDelta& delta) {
  const Include& include = plan_.request.include;
  ASSERT_FALSE(kept_.contains(agent)) << "tokens of an agent that has ended";
  const FakeStream& stream = world_.StreamOf(agent);
  ASSERT_LE(delta.count, static_cast<int>(stream.tokens.size()));
  ASSERT_GT(delta.count, 0);
  thinking_[agent] += delta.thinking;
  answers_[agent] += delta.answer;
  const FamilyDelta whole = stream.Cut(agent, 0, delta.count);
  if (include.thinking) {
    ASSERT_EQ(thinking_[agent], whole.thinking);
  }
  // What joins parts is the answer, whatever the request's aggregation.
  const bool joins = std::any_of(held_.begin(), held_.end(), [](const auto& held) {
    return StageOf(held.first) == kPartStage;
  });
  const bool selects = plan_.request.aggregation == Aggregation::kSelect && !joins;
  const bool streamed =
      plan_.mode != Mode::kContemplating || (StageOf(agent) == kAggregateStage && !selects);
  if (include.agent_answers && !streamed) {
    ASSERT_EQ(answers_[agent], whole.answer);
  }
  if (!include.tokens) return;
  const int before = std::exchange(read_[agent], delta.count);
  ASSERT_EQ(static_cast<int>(delta.tokens.size()), delta.count - before) << "lost or doubled";
  for (int i = before; i < delta.count; ++i) {
    ASSERT_EQ(delta.tokens[i - before], stream.tokens[i].token);
  }
}

void Watcher::ReadDecision(const Decision& decision) {
  ASSERT_EQ(decision.number, static_cast<int>(decisions_.size()) + 1);
  if (!decisions_.empty()) {
    ASSERT_GE(decision.clock, decisions_.back().clock);
  }
  ASSERT_TRUE(std::is_sorted(decision.agents.begin(), decision.agents.end()));
  decisions_.push_back(decision);
}

void Watcher::ReadCompleted(const Completed& completed) {
  complete_read_ = true;
  completed_ = completed;
  ASSERT_EQ(answer_, completed.answer) << "the deltas joined are not the answer";
}

void Watcher::Close(const FakeFleet& fleet) {
  while (!outbox_.empty()) Read();
  ASSERT_EQ(status_.ok(), completed_.has_value());
  if (!completed_) return CheckBill(fleet);
  CheckReceipt(completed_->receipt, fleet);
  CheckVotes(*completed_);
  CheckVerdicts(*completed_);
}

// What it was sent with, less its words: what its model's first one in the plan has. REQUIRES: it
// does not merge.
AgentRecipe Watcher::RecipeOf(AgentId agent) const {
  AgentRecipe recipe = StageOf(agent) == kSplitStage ? plan_.split : plan_.agents.front();
  const std::vector<std::string>& models = plan_.request.agent_models;
  const auto sent = models_.find(agent);
  if (sent != models_.end() && StageOf(agent) != kSplitStage && !models.empty()) {
    const auto of = std::find(models.begin(), models.end(), sent->second) - models.begin();
    recipe = plan_.agents[static_cast<size_t>(of)];
  }
  recipe.id = agent;
  return recipe;
}

// Nobody goes on below the bar, and nobody is ended above it.
void Watcher::CheckBar(const AgentUsage& usage) {
  if (StageOf(usage.agent) == kAggregateStage) return;
  const AgentRecipe recipe = RecipeOf(usage.agent);
  const FakeEnd end = world_.EndOf(recipe);
  ASSERT_LE(usage.kept + usage.discarded, end.length);
  if (!usage.cut) {
    const std::optional<Agreed> agreed = AgreedEnd(plan_, world_, recipe);
    ASSERT_EQ(usage.kept, agreed ? agreed->length : end.length);
    ASSERT_EQ(usage.reason, agreed ? Finish::kStop : end.cause);
    ASSERT_EQ(usage.probes_agreed, agreed.has_value());
    ASSERT_TRUE(usage.reason != Finish::kBar || !usage.answer);
  }
}

// Whether enough are heard of a round behind the first, by the definition. `stopped`: those that
// were not needed any more, when the stop rule was met, are heard.
bool Watcher::Speaks(const Receipt& receipt, int round, bool stopped) const {
  int ended = 0, before = 0, before_barred = 0, not_heard = 0;
  for (const AgentUsage& usage : receipt.agents) {
    if (StageOf(usage.agent) != kThinkStage) continue;
    const bool barred = !usage.cut && usage.reason == Finish::kBar;
    if (RoundOf(usage.agent) == round - 1 && !usage.cut) ++(barred ? before_barred : before);
    if (RoundOf(usage.agent) != round) continue;
    if (usage.accepted.value_or(false)) return true;
    ended += !usage.cut && !barred ? 1 : 0;
    not_heard += barred || (usage.cut && usage.cut_reason != CutReason::kSettled) ? 1 : 0;
  }
  const int heard = before > 0 ? before : before_barred;
  const int fewest = std::max(plan_.min_agents, (heard + 1) / 2);
  const int most = static_cast<int>(plan_.agents.size()) - not_heard;
  return (stopped && ended > 0 ? most : ended) >= fewest;
}

// The last round, or the one before it where that one is not heard. Who was kept out before the
// stop rule was met, and who then, the receipt does not tell apart: there the votes must be of
// either.
int Watcher::VotingRound(const Receipt& receipt) const {
  int last = 0;
  for (const AgentUsage& usage : receipt.agents) {
    if (StageOf(usage.agent) == kThinkStage && usage.kept + usage.discarded > 0)
      last = std::max(last, RoundOf(usage.agent));
  }
  if (last == 0 || Speaks(receipt, last, false)) return last;
  if (plan_.stop.rule == StopRule::kNone || !Speaks(receipt, last, true)) return last - 1;
  const std::map<std::string, Vote> votes = VotesOf(receipt, last);
  const bool its = votes.size() == receipt.votes.size() &&
                   std::all_of(receipt.votes.begin(), receipt.votes.end(), [&](const Vote& vote) {
                     return votes.contains(vote.answer) && SameVote(votes.at(vote.answer), vote);
                   });
  return its ? last : last - 1;
}

std::map<std::string, Vote> Watcher::VotesOf(const Receipt& receipt, int round) {
  std::map<std::string, Vote> votes;
  for (const AgentUsage& usage : receipt.agents) {
    if (StageOf(usage.agent) != kThinkStage || RoundOf(usage.agent) != round) continue;
    if (usage.weight == 0) continue;
    Vote& vote = votes[*usage.answer];
    vote.answer = *usage.answer;
    vote.weight += usage.weight;
    ++vote.count;
  }
  return votes;
}

// The votes are those of that round, each with the weight that its agent's kept tokens give it.
void Watcher::CheckVotes(const Completed& completed) {
  const Receipt& receipt = completed.receipt;
  if (plan_.mode != Mode::kContemplating) return;
  std::map<std::string, Vote> votes = VotesOf(receipt, VotingRound(receipt));
  const auto has_vote = [](const AgentUsage& usage) {
    return StageOf(usage.agent) == kThinkStage && usage.accepted.value_or(false);
  };
  for (const AgentUsage& usage : receipt.agents) {
    const bool any =
        std::any_of(receipt.agents.begin(), receipt.agents.end(), [&](const AgentUsage& other) {
          return RoundOf(other.agent) == RoundOf(usage.agent) && has_vote(other);
        });
    ASSERT_EQ(usage.weight > 0, usage.answer.has_value() && (!any || has_vote(usage)));
    if (usage.weight == 0) continue;
    ASSERT_LE(usage.weight, 1);
    const double weight = WeightByDefinition(plan_, world_, usage.agent, usage.kept);
    ASSERT_NEAR(usage.weight / weight, 1, 1e-9);
  }
  ASSERT_EQ(receipt.votes.size(), votes.size());
  for (size_t i = 0; i < receipt.votes.size(); ++i) {
    ASSERT_TRUE(SameVote(receipt.votes[i], votes[receipt.votes[i].answer]));
    if (i > 0) {
      ASSERT_LE(receipt.votes[i].weight, receipt.votes[i - 1].weight);
    }
  }
  if (!votes.empty() && completed.method != Aggregation::kSynthesise &&
      completed.method != Aggregation::kSelect && !plan_.checker) {
    ASSERT_EQ(plan_.answer_key->Extract(completed.answer), receipt.votes[0].answer);
  }
}

// What it says, or what its copies agreed on.
std::string Watcher::AnswerOf(const AgentUsage& usage) const {
  if (!usage.cut && StageOf(usage.agent) != kAggregateStage) {
    const std::optional<Agreed> agreed = AgreedEnd(plan_, world_, RecipeOf(usage.agent));
    if (agreed) return agreed->text;
  }
  return world_.StreamOf(usage.agent).Cut(usage.agent, 0, usage.kept).answer;
}

// What was said of answers is what the checker says of them, and one that is accepted is not passed
// over but by those who merge.
void Watcher::CheckVerdicts(const Completed& completed) {
  bool any = false;
  for (const AgentUsage& usage : completed.receipt.agents) {
    const auto told = verdicts_.find(usage.agent);
    ASSERT_EQ(told != verdicts_.end(), usage.accepted.has_value());
    if (!usage.accepted) continue;
    ASSERT_EQ(told->second, *usage.accepted);
    ASSERT_EQ(usage.accepted, Defined(plan_, AnswerOf(usage)).accepted);
    any = any || *usage.accepted;
  }
  ASSERT_TRUE(plan_.checker || verdicts_.empty());
  if (any && completed.method != Aggregation::kSynthesise) {
    ASSERT_EQ(completed.accepted, true) << "a right answer was passed over";
  }
}

// Who gets no answer is billed all the same.
void Watcher::CheckBill(const FakeFleet& fleet) {
  int64_t received = 0;
  for (const auto& [agent, tokens] : fleet.delivered()) received += tokens;
  ASSERT_EQ(bill_.tokens, received);
  ASSERT_EQ(bill_.probe_tokens, fleet.probed());
  ASSERT_EQ(bill_.prompt.computed + bill_.prompt.shared, bill_.prompt.total);
}

void Watcher::CheckReceipt(const Receipt& receipt, const FakeFleet& fleet) {
  ASSERT_EQ(receipt.decisions, decisions_);
  int64_t kept = 0, prompts = 0, discarded = 0;
  int cut = 0;
  std::map<AgentId, int> billed;
  for (const AgentUsage& usage : receipt.agents) {
    CheckBar(usage);
    const auto delivered = fleet.delivered().find(usage.agent);
    const int received = delivered == fleet.delivered().end() ? 0 : delivered->second;
    ASSERT_EQ(usage.kept + usage.discarded, received) << "kept and discarded are not what came";
    ASSERT_GE(usage.discarded, 0);
    if (const auto told = kept_.find(usage.agent); told != kept_.end()) {
      ASSERT_EQ(told->second, usage.kept);
    } else {
      ASSERT_EQ(usage.kept, 0);
    }
    ASSERT_LE(usage.thinking, usage.kept);
    const FakeStream& stream = world_.StreamOf(usage.agent);
    ASSERT_LE(JoinedAnswer(stream, usage.agent, usage.thinking).size(), 0u);
    kept += usage.kept;
    discarded += usage.discarded;
    prompts += usage.prompt_tokens;
    cut += usage.cut ? 1 : 0;
    billed[usage.agent] = usage.kept;
  }
  for (const auto& [agent, tokens] : kept_) ASSERT_TRUE(billed.contains(agent));
  for (const auto& [agent, tokens] : fleet.delivered()) ASSERT_TRUE(billed.contains(agent));
  ASSERT_EQ(receipt.thinking_tokens + receipt.answer_tokens + receipt.aggregation_tokens, kept);
  ASSERT_LE(kept, plan_.total_tokens);
  ASSERT_EQ(receipt.discarded_tokens, discarded);
  ASSERT_EQ(receipt.agents_cut, cut);
  ASSERT_EQ(receipt.prompt.total, prompts);
  ASSERT_EQ(receipt.prompt.computed + receipt.prompt.shared, receipt.prompt.total);
  ASSERT_EQ(receipt.probe_tokens, fleet.probed());
  ASSERT_EQ(receipt.aggregator_fingerprint, plan_.aggregator ? plan_.aggregator->fingerprint : "");
  int votes = 0;
  for (const Vote& vote : receipt.votes) votes += vote.count;
  ASSERT_LE(votes, static_cast<int>(receipt.agents.size()));
  ASSERT_GE(receipt.time_to_first_answer, absl::ZeroDuration());
  ASSERT_LE(receipt.time_to_first_answer, receipt.wall_time);
  if (!fleet.lost_any() && !receipt.counts_from_stream) {
    ASSERT_EQ(receipt.resumes, 0);
  }
}

}  // namespace conclave::router
