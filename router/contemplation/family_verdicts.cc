#include <utility>

#include "common/answer/normalise.h"
#include "router/contemplation/course.h"
#include "router/contemplation/vote_weight.h"

// What an agent's answer is worth: its vote, and the checker's verdict.
namespace conclave::router {

// Another model's pass puts its answer its own way.
const std::optional<AnswerKey>& Contemplation::Course::KeyOf(const Agent& agent) const {
  const bool others = plan_.aggregator && StageOf(agent.recipe.id) == kAggregateStage;
  return others ? plan_.aggregator->answer_key : plan_.key_of(agent.model);
}

// The checker looks at what the key finds. A key that the request didn't name is the model's habit
// and no promise: where the checker doesn't accept what it finds, the whole answer may be right,
// and then it is the answer.
Contemplation::Course::Judged Contemplation::Course::Judge(
    std::string_view text, const std::optional<AnswerKey>& key) const {
  Judged judged;
  const std::optional<std::string> found = key ? key->Find(text) : std::nullopt;
  if (found) judged.answer = NormaliseAnswer(*found);
  if (!plan_.checker) return judged;
  if (found) judged.verdict = plan_.checker->Check(*found);
  const bool accepted = judged.verdict && judged.verdict->accepted;
  if (accepted || plan_.request.answer_key || TrimSpace(text).empty()) return judged;
  Verdict whole = plan_.checker->Check(text);
  if (whole.accepted) judged.answer = NormaliseAnswer(text);
  if (whole.accepted || !judged.verdict) judged.verdict = std::move(whole);
  return judged;
}

// The agent says what its kept tokens hold. What a splitter says is no answer, and what is said of
// a part is that part's: no checker looks at either. Once an answer is accepted, those that are not
// have no vote, whoever came first.
void Contemplation::Course::CastVote(Agent& agent) {
  if (round_.kind == Round::Kind::kSplit) return;
  if (round_.kind == Round::Kind::kParts) return CastPart(agent);
  Judged judged = Judge(AnswerOf(agent), KeyOf(agent));
  agent.answer = std::move(judged.answer);
  agent.verdict = std::move(judged.verdict);
  const bool accepted = agent.verdict && agent.verdict->accepted;
  if (accepted && ballot_.accepted().empty()) {
    for (const std::vector<AgentId>& voters : ballot_.Voters()) {
      for (AgentId voter : voters) At(voter).weight = 0;
    }
  }
  const bool votes = agent.answer && (accepted || ballot_.accepted().empty());
  if (votes) agent.weight = WeightOf(ConfidenceOf(agent), plan_.vote_weight);
  ballot_.Add(agent.recipe.id, agent.answer, agent.weight, accepted);
}

void Contemplation::Course::CastPart(Agent& agent) {
  if (const auto& key = KeyOf(agent)) agent.answer = key->Extract(AnswerOf(agent));
  if (agent.answer) agent.weight = WeightOf(ConfidenceOf(agent), plan_.vote_weight);
  Part& part = parts_[static_cast<size_t>(RoundOf(agent.recipe.id))];
  part.counted.push_back(agent.recipe.id);
  part.ballot.Add(agent.recipe.id, agent.answer, agent.weight);
}

void Contemplation::Course::EmitVerdict(const Agent& agent) {
  if (agent.verdict) EmitEvent(agent.recipe.id, *agent.verdict);
}

// Whether the answer is the one that was accepted first.
bool Contemplation::Course::CheckDecides() const {
  const Aggregation aggregation = plan_.request.aggregation;
  return (aggregation == Aggregation::kAuto || aggregation == Aggregation::kCheck) &&
         !ballot_.accepted().empty();
}

}  // namespace conclave::router
