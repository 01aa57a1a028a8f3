#include "tests/unit/router/contemplation/led_family.h"

#include <algorithm>
#include <utility>

#include "common/check.h"

namespace conclave::router {

LedFamily::LedFamily() {
  model_.name = "m";
  model_.fingerprint = "f";
  model_.max_positions = 1024;
  model_.max_agents = 64;
  model_.decision_version = kDecisionVersion;
  model_.profile.aggregate_text = "{question}{candidates}";
  model_.profile.candidate_line = "{answer}";
  model_.profile.answer_tokens = 64;
  model_.profile.answer_key = {.kind = AnswerKeySpec::Kind::kWholeText, .argument = {}};
  request_.id = "r";
  request_.messages = {{Role::kUser, {{"What?"}}}};
  request_.mode = Mode::kContemplating;
}

void LedFamily::Begin(int agents, int least) {
  request_.max_agents = agents;
  request_.min_agents = least;
  Begin();
}

void LedFamily::Begin() {
  const auto plan =
      MakePlan(request_, model_, limits_, aggregator_ ? &*aggregator_ : nullptr, others_);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_EQ(plan->fingerprint, "f");
  family_.emplace(*plan, limits_);
  Tell(Started{});
}

void LedFamily::Tell(decltype(Event::what) what) {
  for (Command& command : family_->On({.at = now_, .what = std::move(what)})) {
    EXPECT_FALSE(is_done()) << "a command after the end";
    if (auto* open = std::get_if<OpenRun>(&command)) {
      attempt_ = open->attempt;
      finished_ = false;
      opened_.push_back(*open);
      placing_ = true;
      answered_ = gangs_.size();
    }
    if (auto* gang = std::get_if<AddGang>(&command)) gangs_.push_back(*gang);
    if (auto* cancel = std::get_if<CancelAgents>(&command)) cancels_.push_back(*cancel);
    if (auto* fail = std::get_if<Fail>(&command)) {
      failed_ = fail->why;
      bill_ = fail->bill;
    }
    if (auto* emit = std::get_if<Emit>(&command)) events_.push_back(emit->event);
    if (auto* wake = std::get_if<WakeAt>(&command)) wake_ = wake->time;
    const auto* finish = std::get_if<FinishRun>(&command);
    if (finish != nullptr) finishes_.push_back(finish->place);
    finished_ = finished_ || (finish != nullptr && finish->place == 0);  // The last one.
    closed_ = closed_ || std::holds_alternative<CloseRun>(command);
    succeeded_ = succeeded_ || std::holds_alternative<Succeed>(command);
  }
}

void LedFamily::Place(int credits, const std::string& fingerprint) {
  placing_ = false;
  Placed placed{
      .attempt = attempt_, .fingerprint = fingerprint, .credits = credits, .words = "group g"};
  const std::vector<PlaceWanted>& places = opened_.back().places;
  for (size_t i = 1; i < places.size(); ++i) placed.beside.push_back(places[i].fingerprint);
  Tell(placed);
}

void LedFamily::Accept(const AddGang& gang) {
  ++answered_;
  Accepted accepted{.attempt = gang.attempt, .agents = {}, .place = gang.place};
  for (const AgentRecipe& agent : gang.agents)
    accepted.agents.push_back({.id = agent.id, .prompt_tokens = 5});
  Tell(accepted);
}

void LedFamily::AcceptAll() {
  while (answered_ < gangs_.size()) Accept(AddGang(gangs_[answered_]));
}

void LedFamily::Refuse(const AddGang& gang, const absl::Status& why, int width) {
  ++answered_;
  Refused refused{
      .attempt = gang.attempt, .agents = {}, .why = why, .width = width, .place = gang.place};
  for (const AgentRecipe& agent : gang.agents) refused.agents.push_back(agent.id);
  Tell(refused);
}

// Where it was sent last.
int LedFamily::PlaceOf(AgentId agent) const {
  int place = 0;
  for (const AddGang& gang : gangs_) {
    for (const AgentRecipe& recipe : gang.agents) {
      if (recipe.id == agent) place = gang.place;
    }
  }
  return place;
}

void LedFamily::Say(AgentId agent, const std::string& words) {
  std::string& said = words_[agent];
  Delta delta{.attempt = attempt_, .delta = {}, .place = PlaceOf(agent)};
  delta.delta.agent = agent;
  delta.delta.first = static_cast<int>(said.size());
  delta.delta.answer = words;
  for (const char letter : words) {
    said += letter;
    TextToken token;
    token.token.id = letter;
    token.text_end = static_cast<int64_t>(said.size());
    delta.delta.tokens.push_back(token);
  }
  if (words.back() == '.') {
    delta.delta.end =
        AgentEnding{.cause = Finish::kStop, .sampled = static_cast<int>(words.size())};
  }
  Tell(delta);
}

void LedFamily::Answer(AgentId agent, int at, const std::string& answer) {
  Tell(Probed{.attempt = attempt_,
              .result = {.agent = agent, .at = at, .answer = answer, .sampled = 3, .forced = 2},
              .place = PlaceOf(agent)});
}

void LedFamily::End(AgentId agent, Finish cause) {
  Delta delta{.attempt = attempt_, .delta = {}, .place = PlaceOf(agent)};
  delta.delta.agent = agent;
  delta.delta.first = static_cast<int>(words_[agent].size());
  delta.delta.end = AgentEnding{.cause = cause};
  Tell(delta);
}

void LedFamily::Lose(const absl::Status& why) { Tell(Lost{.attempt = attempt_, .why = why}); }

void LedFamily::Pass(absl::Duration time) {
  const absl::Time until = now_ + time;
  while (wake_ <= until && !is_done()) {
    now_ = std::max(now_, wake_);
    wake_ = absl::InfiniteFuture();
    Tell(Tick{});
  }
  now_ = until;
}

void LedFamily::EndFamily() {
  Tell(FamilyEnded{.attempt = attempt_, .totals = {.prompt_computed = 5}});
}

void LedFamily::BeginReplay(const Receipt& receipt) {
  request_.replay = ReplaySpec{.seed = receipt.seed,
                               .time_of_day = receipt.time_of_day,
                               .fingerprint = receipt.fingerprint,
                               .aggregator_fingerprint = receipt.aggregator_fingerprint,
                               .agent_fingerprints = receipt.agent_fingerprints,
                               .decision_version = receipt.decision_version,
                               .decisions = receipt.decisions,
                               .result_hash = receipt.result_hash};
  request_.seed = receipt.seed;
  const std::map<AgentId, std::string> words = std::exchange(words_, {});
  Forget();
  words_ = words;
  Begin();
}

void LedFamily::Forget() {
  attempt_ = 0;
  opened_.clear();
  gangs_.clear();
  events_.clear();
  words_.clear();
  wake_ = absl::InfiniteFuture();
  failed_.reset();
  succeeded_ = finished_ = closed_ = placing_ = false;
  answered_ = 0;
}

void LedFamily::Replay(const Receipt& receipt) {
  const std::map<AgentId, std::string> wanted = std::exchange(words_, {});
  BeginReplay(receipt);
  for (size_t sent = 0; !is_done();) {
    if (placing_) {
      Place(64, opened_.back().places[0].fingerprint);
      continue;
    }
    if (sent == gangs_.size()) {
      if (!finished_) return;
      EndFamily();
      continue;
    }
    const AddGang gang = gangs_[sent++];
    Accept(gang);
    for (const AgentRecipe& agent : gang.agents) {
      const auto words = wanted.find(agent.id);
      if (words == wanted.end() || is_done()) continue;
      const auto most = agent.run_to > 0 ? static_cast<size_t>(agent.run_to) : std::string::npos;
      if (const std::string said = words->second.substr(0, most); !said.empty()) {
        Say(agent.id, said);
      }
    }
  }
}

std::vector<Decision> LedFamily::Decisions() const {
  std::vector<Decision> decisions;
  for (const ClientEvent& event : events_) {
    if (const auto* decision = std::get_if<Decision>(&event.what)) decisions.push_back(*decision);
  }
  return decisions;
}

const Completed& LedFamily::completed() const {
  CHECK(!events_.empty());
  const auto* completed = std::get_if<Completed>(&events_.back().what);
  CHECK(completed != nullptr);
  return *completed;
}

}  // namespace conclave::router
