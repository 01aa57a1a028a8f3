#include <algorithm>
#include <iterator>
#include <utility>

#include "common/answer/normalise.h"
#include "common/check.h"
#include "router/contemplation/course.h"
#include "router/contemplation/digest.h"

// Rounds: who is asked what, one round after another. A later round's agents are made of what was
// counted before it, and start where that ended: so a replay makes the same without being told.
namespace conclave::router {

void Contemplation::Course::OpenFirstRound() {
  // References to agents stay valid but where a round is opened or the synthesiser enters.
  const size_t widest = plan_.agents.size();
  const bool splits = plan_.strategy == Strategy::kDecompose;
  const size_t rounds = splits ? 2 : 1 + static_cast<size_t>(plan_.rounds);
  agents_.reserve(widest * rounds + 2);  // With a splitter and what merges.
  if (splits) return OpenRound({.kind = Round::Kind::kSplit}, {plan_.split}, {1});
  OpenRound({.kind = Round::Kind::kAnswer}, plan_.agents, plan_.waves);
}

// The agents of `recipes` are the round's. They may enter from where the round before it ended.
void Contemplation::Course::OpenRound(Round round, std::vector<AgentRecipe> recipes,
                                      const std::vector<int>& waves) {
  CHECK(!recipes.empty() && agents_.size() + recipes.size() < agents_.capacity());
  const int64_t clock = tally_.clock();
  round.begin = Place(recipes.front().id);
  round.size = recipes.size();
  std::vector<Agent> agents(recipes.size());
  const bool answers = round.kind != Round::Kind::kSplit;
  for (size_t i = 0; i < recipes.size(); ++i) {
    agents[i].recipe = std::move(recipes[i]);
    if (answers) agents[i].model = plan_.models[i % plan_.models.size()];
  }
  agents_.insert(agents_.begin() + static_cast<std::ptrdiff_t>(round.begin),
                 std::make_move_iterator(agents.begin()), std::make_move_iterator(agents.end()));
  round_ = round;
  ++rounds_opened_;
  ballot_ = {};
  counted_.clear();
  planned_ = static_cast<int>(recipes.size());
  dropped_ = 0;
  to_open_.assign(waves.begin(), waves.end());
  opened_ = 0;
  OpenWave(clock);
  if (rounds_opened_ > 1) SeekLine(waves.front());
}

// What begins late may find its family without a group.
void Contemplation::Course::SeekLine(int agents) {
  if (line_ == Line::kOpen) return;
  resume_due_ = now_ + limits_.resume_wait;
  if (line_ == Line::kNone && reopen_due_ == absl::InfiniteFuture()) {
    OpenAttempt(std::max(1, std::min(agents, plan_.group_agents)), 1);
  }
}

bool Contemplation::Course::InRound(AgentId id) const {
  const size_t place = Place(id);
  return place >= round_.begin && place < round_.begin + round_.size &&
         agents_[place].recipe.id == id;
}

bool Contemplation::Course::AnyOfRoundEntered() const {
  const auto begin = agents_.begin() + static_cast<std::ptrdiff_t>(round_.begin);
  return std::any_of(begin, begin + static_cast<std::ptrdiff_t>(round_.size),
                     [](const Agent& agent) { return agent.entered; });
}

// Fewest agents that the round goes on with. What the round before it found stands without it, and
// a question whose splitter was lost is asked as it is.
int Contemplation::Course::Least() const {
  switch (round_.kind) {
    case Round::Kind::kSplit:
      return AnyEntered() ? 0 : 1;
    case Round::Kind::kParts:
      return 1;
    case Round::Kind::kAnswer:
      break;
  }
  return round_.number == 0 ? plan_.min_agents : 0;
}

// Counted ends of the round but such as a bar made.
int Contemplation::Course::EndsByThemselves() const {
  return static_cast<int>(std::count_if(counted_.begin(), counted_.end(),
                                        [this](AgentId id) { return At(id).end != Finish::kBar; }));
}

// How many must be heard of a round behind another one: fewer do not outvote those before them.
// REQUIRES: there was a round before, of the question.
int Contemplation::Course::FewestToSpeak() const {
  const std::vector<AgentId>& before = before_->agents;
  const auto barred = static_cast<int>(std::count_if(
      before.begin(), before.end(), [this](AgentId id) { return At(id).end == Finish::kBar; }));
  const auto all = static_cast<int>(before.size());
  const int heard = barred < all ? all - barred : all;
  return std::max(plan_.min_agents, (heard + 1) / 2);
}

// Whether the round, of which so many are heard, leaves the answer to the one before it. An answer
// that the checker accepts is right, whoever gave it.
bool Contemplation::Course::StandsBack(int heard) const {
  return before_ && heard < FewestToSpeak() && ballot_.accepted().empty();
}

// Whether another round follows: not where the checker accepts an answer, or (without a checker)
// all agree already, two or more of them, nor where there is nothing to see.
bool Contemplation::Course::Refines() const {
  if (plan_.strategy != Strategy::kRefine || round_.number >= plan_.rounds) return false;
  if (!ballot_.accepted().empty()) return false;
  const std::vector<Vote> votes = ballot_.Votes();
  // One alone agrees with what it said before.
  const std::vector<Vote> said = before_ ? before_->ballot.Votes() : std::vector<Vote>{};
  const bool again = votes.size() == 1 && said.size() == 1 && said[0].answer == votes[0].answer;
  const bool agree = !plan_.checker && votes.size() == 1 && (votes[0].count > 1 || again) &&
                     votes[0].count == static_cast<int>(Heard().size());
  const std::vector<CountedAnswer> answers = AnswersHeard();
  return !agree && std::any_of(answers.begin(), answers.end(),
                               [](const CountedAnswer& answer) { return !answer.text.empty(); });
}

// As many as the first round was planned for, each with what it sees of the drafts.
std::vector<AgentRecipe> Contemplation::Course::RefiningAgents() const {
  int most = plan_.profile.max_candidates;  // They are the same for all.
  for (const OtherModel& other : plan_.others) most = std::min(most, other.profile.max_candidates);
  std::vector<CountedAnswer> answers = AnswersHeard();
  std::erase_if(answers, [](const CountedAnswer& answer) { return answer.text.empty(); });
  std::vector<std::string> drafts = Candidates(ballot_, answers, most);
  std::vector<AgentRecipe> recipes = plan_.agents;
  for (AgentRecipe& recipe : recipes) {
    recipe.id = MakeAgentId(kThinkStage, round_.number + 1, IndexOf(recipe.id));
    recipe.append.clear();
    if (plan_.drafts > 0) {
      drafts.clear();
      const int count = static_cast<int>(answers.size());
      for (const int i : DrawDrafts(plan_.seed, recipe.id, count, std::min(plan_.drafts, most))) {
        drafts.push_back(answers[static_cast<size_t>(i)].text);
      }
    }
    const int model = plan_.models[static_cast<size_t>(IndexOf(recipe.id)) % plan_.models.size()];
    recipe.messages = RefineMessages(plan_.profile_of(model), plan_.request.messages,
                                     Digest(drafts, plan_.digest_bytes));
  }
  return recipes;
}

void Contemplation::Course::Refine() {
  std::vector<AgentRecipe> recipes = RefiningAgents();
  before_ = {.round = round_, .ballot = ballot_, .agents = counted_};
  OpenRound({.kind = Round::Kind::kAnswer, .number = round_.number + 1}, std::move(recipes),
            plan_.waves);
}

// The round came to nothing: what was found before it is what there is.
void Contemplation::Course::BackToRoundBefore() {
  round_ = before_->round;
  ballot_ = std::move(before_->ballot);
  counted_ = std::move(before_->agents);
  before_.reset();
}

// The question has no parts, or none that can be asked.
void Contemplation::Course::AskWhole() {
  parts_.clear();
  OpenRound({.kind = Round::Kind::kAnswer}, plan_.agents, plan_.waves);
}

// One agent, or equally many, for each part; where there are none, the question is asked whole.
void Contemplation::Course::EndSplit() {
  std::vector<std::string> texts;
  if (!counted_.empty() && At(counted_.front()).end == Finish::kStop) {
    const Agent& splitter = At(counted_.front());
    texts = PartsOf(splitter.transcript.AnswerAt(*splitter.kept),
                    static_cast<int>(plan_.agents.size()));
  }
  if (texts.empty()) return AskWhole();
  const size_t each = plan_.agents.size() / texts.size();
  std::vector<AgentRecipe> recipes;
  for (size_t i = 0; i < each * texts.size(); ++i) {
    const int part = static_cast<int>(i / each);
    AgentRecipe& recipe = recipes.emplace_back(plan_.agents[i]);
    recipe.id = MakeAgentId(kPartStage, part, static_cast<int>(i % each));
    recipe.append.clear();
    recipe.messages = PartMessages(plan_.request.messages, texts[static_cast<size_t>(part)]);
  }
  for (std::string& text : texts) parts_.emplace_back().text = std::move(text);
  const int size = static_cast<int>(recipes.size());
  OpenRound({.kind = Round::Kind::kParts}, std::move(recipes), {size});
}

// What each part came to: its vote's answer, or what was said first. Empty: nothing.
std::vector<PartAnswer> Contemplation::Course::PartAnswers() const {
  std::vector<PartAnswer> answers;
  for (size_t i = 0; i < parts_.size(); ++i) {
    const Part& part = parts_[i];
    PartAnswer& answer = answers.emplace_back(PartAnswer{.part = part.text, .answer = {}});
    std::vector<AgentId> heard = part.ballot.empty() ? part.counted : part.ballot.Voters().front();
    if (heard.empty()) {  // Those that their bar ended speak where there is no other.
      for (AgentId id : counted_) {
        if (RoundOf(id) == static_cast<int>(i)) heard.push_back(id);
      }
    }
    for (AgentId id : heard) {
      const Agent& agent = At(id);
      answer.answer = TrimSpace(AnswerOf(agent));
      if (!answer.answer.empty()) break;
    }
  }
  return answers;
}

// Whether a part has no answer, or only such as a bar cut short.
bool Contemplation::Course::LacksParts() const {
  for (const Part& part : parts_) {
    if (part.counted.empty()) return true;
  }
  const std::vector<PartAnswer> answers = PartAnswers();
  return std::any_of(answers.begin(), answers.end(),
                     [](const PartAnswer& answer) { return answer.answer.empty(); });
}

}  // namespace conclave::router
