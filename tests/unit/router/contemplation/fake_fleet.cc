#include "tests/unit/router/contemplation/fake_fleet.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/status.h"

namespace conclave::router {
namespace {

template <typename... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};
template <typename... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;

}  // namespace

FakeFleet::FakeFleet(const World& world, const Chaos& chaos, uint64_t seed)
    : world_(world), chaos_(chaos), random_(seed) {}

void FakeFleet::Obey(const Command& command) {
  const auto to_run = [this, &command](const auto& each) {
    ASSERT_TRUE(run_ && run_->placed && run_->attempt == each.attempt) << "no such stream";
    ASSERT_LT(static_cast<size_t>(each.place), run_->fingerprints.size()) << "no such place";
    ASSERT_FALSE(run_->told_to_finish.contains(each.place)) << "a command after FinishRun";
    if (!run_->gone) run_->inbox.push_back(command);
  };
  std::visit(Overloaded{[this](const OpenRun& open) {
                          ASSERT_FALSE(run_) << "two attempts at a time";
                          run_.emplace();
                          run_->attempt = open.attempt;
                          run_->wanted = 0;
                          for (const PlaceWanted& place : open.places) {
                            run_->wanted = std::max(run_->wanted, place.agents);
                            run_->fingerprints.push_back(place.fingerprint);
                          }
                          run_->model = open.places.front().model;
                          const int places = static_cast<int>(open.places.size());
                          if (places > 1 && random_.Chance(40))
                            run_->laggard = random_.Below(places);
                          run_->room = random_.Between(chaos_.least_room, chaos_.most_room);
                          run_->pool = random_.Between(chaos_.least_pool, chaos_.least_pool + 8);
                          run_->room = std::min(run_->room, run_->pool);
                        },
                        [&](const AddGang& gang) { to_run(gang); },
                        [&](const CancelAgents& cancel) {
                          const bool hasty = random_.Chance(chaos_.hasty_cancel);
                          to_run(cancel);
                          for (int i = 0; i < 5 && !hasty; ++i) Draw();
                        },
                        [&](const RaiseRunTo& raise) { to_run(raise); },
                        [&](const FinishRun& finish) {
                          to_run(finish);
                          if (run_) run_->told_to_finish.insert(finish.place);
                        },
                        [this](const CloseRun& close) {
                          ASSERT_TRUE(run_ && run_->attempt == close.attempt) << "closed twice";
                          Forget();
                        },
                        [](const auto&) {}},
             command);
}

bool FakeFleet::Idle() const {
  if (!run_ || run_->silent) return true;
  if (!run_->outbox.empty() || !run_->inbox.empty()) return false;
  if (!run_->placed) return run_->gone || run_->wanted > run_->room;
  if (run_->gone) return true;
  return std::none_of(run_->seated.begin(), run_->seated.end(), [](const Seated& agent) {
    return !agent.ended &&
           (agent.run_to == 0 || agent.count < agent.run_to || !agent.asked.empty());
  });
}

void FakeFleet::Work() {
  if (!run_ || run_->gone || run_->silent) return;
  if (!run_->placed) return FindPlace();
  Turn();
  if (run_->gone || run_->silent) return;
  if (!run_->inbox.empty() && random_.Chance(50)) return ObeyNext();
  Draw();
}

void FakeFleet::FindPlace() {
  const bool other = run_->model == kOtherModel;
  ASSERT_TRUE(other || run_->model == kAgentsModel) << "nobody serves " << run_->model;
  std::vector<std::string> there = run_->fingerprints;
  if (random_.Chance(chaos_.no_place) || (other && chaos_.no_other)) {
    run_->gone = true;
    run_->outbox.push_back(PlacementFailed{.attempt = run_->attempt, .why = Unavailable("nobody")});
    return;
  }
  if (run_->wanted > run_->room) return;
  run_->placed = true;
  const bool foreign = random_.Chance(chaos_.foreign);
  lost_any_ = lost_any_ || foreign;
  const int credits = chaos_.tells_credits ? run_->room : random_.Below(3);
  run_->others = Others();
  there.front() = other ? "x" : "f";
  if (foreign) there[static_cast<size_t>(random_.Below(static_cast<int>(there.size())))] = "g";
  run_->outbox.push_back(Placed{.attempt = run_->attempt,
                                .fingerprint = there.front(),
                                .beside = {there.begin() + 1, there.end()},
                                .credits = credits,
                                .running = run_->others,
                                .words = "group g serves"});
}

// Agents of others: so many that places are dear, or none.
int FakeFleet::Others() {
  return random_.Chance(chaos_.busy) ? random_.Below(16 * run_->room + 1) : 0;
}

// What a group does of its own accord.
void FakeFleet::Turn() {
  if (random_.Below(1000) < chaos_.tide) {
    run_->room = std::min(random_.Between(chaos_.least_room, chaos_.most_room), run_->pool);
    run_->others = Others();
    run_->outbox.push_back(CreditsChanged{.attempt = run_->attempt,
                                          .credits = std::max(0, run_->room - Running()),
                                          .running = run_->others + Running()});
  }
  if (random_.Below(1000) < chaos_.silent) run_->silent = true;
  if (random_.Below(1000) < chaos_.broken && !run_->over) Break();
}

// Something that no group may say, in place of what it had to say.
void FakeFleet::Break() {
  run_->outbox.clear();
  run_->inbox.clear();
  const int attempt = run_->attempt;
  const auto say = [this](decltype(Event::what) what) { run_->outbox.push_back(std::move(what)); };
  FamilyDelta delta;
  const Seated* agent = nullptr;
  for (const Seated& seated : run_->seated) {
    if (!seated.ended) agent = &seated;
  }
  const int kind = random_.Below(agent == nullptr ? 3 : 6);
  int place = agent == nullptr ? 0 : agent->place;
  if (agent != nullptr) {
    const auto delivered = delivered_.find(agent->id);
    const int count = delivered == delivered_.end() ? 0 : delivered->second;
    delta = agent->stream->Cut(agent->id, count, count);
    if (run_->fingerprints.size() > 1 && random_.Chance(20)) {  // Of another one's agent.
      place = (place + 1) % static_cast<int>(run_->fingerprints.size());
    } else if (kind == 3) {  // A gap.
      delta.first = count + 1;
      delta.tokens = {{.token = {.id = 1}, .text_end = 1'000}};
    } else if (kind == 4 && count > 0) {  // Another token than before.
      delta = agent->stream->Cut(agent->id, 0, count);
      delta.tokens.front().token.id += 1;
    } else if (kind == 4) {  // More tokens than were granted.
      delta.tokens.resize(5'000);
    } else {  // An end without its last token.
      delta.end = AgentEnding{.cause = Finish::kStop};
    }
  }
  if (kind == 0) {
    say(Accepted{.attempt = attempt, .agents = {{.id = AgentId{77}, .prompt_tokens = 1}}});
  } else if (kind == 1) {
    say(Refused{
        .attempt = attempt, .agents = {AgentId{77}}, .why = ResourceExhausted("no"), .width = 0});
  } else {
    if (kind == 2) delta.agent = AgentId{77};
    say(Delta{.attempt = attempt, .delta = std::move(delta), .place = place});
  }
  run_->gone = run_->broken = lost_any_ = true;
  say(Lost{.attempt = attempt, .why = Unavailable("group g was lost")});
}

// The client of a stream may hear again what it heard.
void FakeFleet::Repeat(FamilyDelta& delta) {
  if (delta.first == 0 || !random_.Chance(20)) return;
  const int to = delta.first + static_cast<int>(delta.tokens.size());
  const std::optional<AgentEnding> end = delta.end;
  delta = world_.StreamOf(delta.agent).Cut(delta.agent, random_.Below(delta.first), to);
  delta.end = end;
}

int FakeFleet::Running() const {
  return static_cast<int>(std::count_if(run_->seated.begin(), run_->seated.end(),
                                        [](const Seated& agent) { return !agent.ended; }));
}

void FakeFleet::Add(const AddGang& gang) {
  const int size = static_cast<int>(gang.agents.size());
  std::vector<AgentId> ids;
  for (const AgentRecipe& recipe : gang.agents) ids.push_back(recipe.id);
  const auto refuse = [&](const absl::Status& why, int width) {
    run_->outbox.push_back(Refused{
        .attempt = run_->attempt, .agents = ids, .why = why, .width = width, .place = gang.place});
  };
  if (size > run_->pool) return refuse(OutOfRange("the pool is small"), run_->pool);
  if (random_.Chance(chaos_.odd_width))
    return refuse(OutOfRange("they would not fit"), random_.Below(size + 2));
  if (Running() + size > run_->room || random_.Chance(chaos_.refuse))
    return refuse(ResourceExhausted("no room"), 0);
  Accepted accepted{.attempt = run_->attempt, .agents = {}, .place = gang.place};
  for (const AgentRecipe& recipe : gang.agents) {
    const FakeStream& stream = world_.StreamOf(recipe.id);
    ASSERT_LE(recipe.produced.size(), stream.tokens.size());
    for (size_t i = 0; i < recipe.produced.size(); ++i) {
      ASSERT_EQ(recipe.produced[i], stream.tokens[i].token) << "resumed with other tokens";
    }
    std::string told;
    for (const Message& message : recipe.messages) told += TextOf(message) + '\n';
    told += recipe.append;
    ASSERT_EQ(told_.try_emplace(recipe.id, told).first->second, told) << "told otherwise";
    ASSERT_GE(recipe.grant, 1);
    const int fed = static_cast<int>(recipe.produced.size());
    const auto delivered = delivered_.find(recipe.id);
    ASSERT_EQ(fed, delivered == delivered_.end() ? 0 : delivered->second) << "not all that it said";
    ASSERT_LT(fed, world_.EndOf(recipe).length) << "an agent that had ended was sent again";
    std::erase_if(run_->seated, [&](const Seated& seated) { return seated.id == recipe.id; });
    run_->seated.push_back({.id = recipe.id,
                            .stream = &stream,
                            .fed = fed,
                            .count = fed,
                            .run_to = recipe.run_to,
                            .end = world_.EndOf(recipe),
                            .ended = false,
                            .slow = random_.Chance(chaos_.slow),
                            .recipe = recipe,
                            .place = gang.place});
    // Copies that may not have answered are made again.
    Seated& seated = run_->seated.back();
    for (int at = std::max(1, fed - recipe.probe_every); at <= fed; ++at) {
      if (world_.AsksAt(recipe, at)) seated.asked.push_back(at);
    }
    accepted.agents.push_back({.id = recipe.id, .prompt_tokens = world_.PromptOf(recipe.id)});
  }
  run_->outbox.push_back(std::move(accepted));
}

// The first command of one of the places: each obeys in order, and none knows of another.
void FakeFleet::ObeyNext() {
  if (run_->inbox.empty()) return;
  std::map<int, size_t> first;  // By place.
  for (size_t i = 0; i < run_->inbox.size(); ++i) {
    const auto note = [&](const auto& each) {
      if constexpr (requires { each.place; }) first.try_emplace(each.place, i);
    };
    std::visit(note, run_->inbox[i]);
  }
  const int which = first.size() > 1 ? random_.Below(static_cast<int>(first.size())) : 0;
  const auto at =
      run_->inbox.begin() + static_cast<ptrdiff_t>(std::next(first.begin(), which)->second);
  if (std::next(first.begin(), which)->first == run_->laggard && !random_.Chance(4)) return Draw();
  const Command command = std::move(*at);
  run_->inbox.erase(at);
  if (const auto* gang = std::get_if<AddGang>(&command)) return Add(*gang);
  if (const auto* finish = std::get_if<FinishRun>(&command)) {
    run_->finishing.insert(finish->place);
    return EndFamily();
  }
  const auto seat_of = [this](AgentId id) {
    return std::ranges::find_if(run_->seated, [id](const Seated& agent) { return agent.id == id; });
  };
  if (const auto* cancel = std::get_if<CancelAgents>(&command)) {
    for (AgentId id : cancel->agents) {
      const auto agent = seat_of(id);
      if (agent != run_->seated.end() && !agent->ended) End(*agent, Finish::kCancelled);
    }
  } else if (const auto* raise = std::get_if<RaiseRunTo>(&command)) {
    for (size_t i = 0; i < raise->agents.size(); ++i) {
      const auto agent = seat_of(raise->agents[i]);
      if (agent != run_->seated.end()) agent->run_to = std::max(agent->run_to, raise->counts[i]);
    }
  }
}

// One agent draws some tokens.
void FakeFleet::Draw() {
  if (!run_ || run_->seated.empty() || run_->gone) return;
  Seated& agent =
      run_->seated[static_cast<size_t>(random_.Below(static_cast<int>(run_->seated.size())))];
  if (agent.ended || (agent.slow && !random_.Chance(5))) return;
  if (!agent.asked.empty() && random_.Chance(30)) return Answer(agent);
  int to = std::min(agent.count + random_.Between(1, 4), agent.end.length);
  if (agent.run_to > 0) to = std::min(to, agent.run_to);
  const int every = agent.recipe.probe_every;
  if (every > 0) to = std::min({to, agent.hold(), (agent.count / every + 1) * every});
  if (to == agent.count && !agent.asked.empty()) return Answer(agent);
  if (to == agent.count) return;
  Push(agent.stream->Cut(agent.id, agent.count, to), agent.place);
  agent.count = to;
  if (to == agent.end.length) {
    End(agent, agent.end.cause);
  } else if (world_.AsksAt(agent.recipe, to)) {
    agent.asked.push_back(to);
  }
}

void FakeFleet::Answer(Seated& agent) {
  ProbeResult probe = world_.Ask(agent.id, agent.asked.front());
  probe.sampled = std::min(probe.sampled, agent.recipe.probe_tokens);
  probe.forced = std::min(probe.forced, agent.recipe.probe_every - probe.sampled);
  agent.asked.pop_front();
  run_->probed += probe.sampled + probe.forced;
  run_->outbox.push_back(Probed{.attempt = run_->attempt, .result = probe, .place = agent.place});
}

// The attempt is over, and its bill is what was heard of it.
void FakeFleet::Forget() {
  probed_ += run_->heard;
  run_.reset();
}

void FakeFleet::End(Seated& agent, Finish cause) {
  agent.ended = true;
  if (!agent.asked.empty()) run_->probed += random_.Below(6);  // It is dropped.
  agent.asked.clear();
  FamilyDelta delta;
  delta.agent = agent.id;
  delta.first = agent.count;
  delta.end = AgentEnding{.cause = cause,
                          .sampled = agent.count - agent.fed,
                          .forced = 0,
                          .fed = agent.fed,
                          .trailing = cause == Finish::kStop ? 1 : 0};
  Push(std::move(delta), agent.place);
  EndFamily();
}

// One pending delta an agent: new tokens merge into it.
void FakeFleet::Push(FamilyDelta delta, int place) {
  for (auto event = run_->outbox.rbegin(); event != run_->outbox.rend(); ++event) {
    const auto* probe = std::get_if<Probed>(&*event);
    if (probe != nullptr && probe->result.agent == delta.agent) break;
    auto* pending = std::get_if<Delta>(&*event);
    if (pending == nullptr || pending->delta.agent != delta.agent) continue;
    pending->delta.tokens.insert(pending->delta.tokens.end(), delta.tokens.begin(),
                                 delta.tokens.end());
    pending->delta.thinking += delta.thinking;
    pending->delta.answer += delta.answer;
    pending->delta.end = delta.end;
    return;
  }
  run_->outbox.push_back(
      Delta{.attempt = run_->attempt, .delta = std::move(delta), .place = place});
}

void FakeFleet::EndFamily() {
  if (run_->finishing.size() < run_->fingerprints.size() || run_->over || Running() > 0) return;
  run_->over = true;
  FamilyTotals totals;
  int64_t prompts = 0, think = 0, synthesis = 0;
  for (const Seated& agent : run_->seated) {
    const int prompt = world_.PromptOf(agent.id);
    prompts += prompt;
    (StageOf(agent.id) == kAggregateStage ? synthesis : think) = prompt;
    totals.sampled += agent.count - agent.fed;
    totals.fed += agent.fed;
  }
  totals.probed = run_->probed;
  totals.prompt_computed = think + synthesis;
  totals.prompt_shared = prompts - totals.prompt_computed;
  run_->outbox.push_back(FamilyEnded{.attempt = run_->attempt, .totals = totals});
}

std::optional<decltype(Event::what)> FakeFleet::Deliver() {
  if (!run_ || run_->outbox.empty() || run_->silent) return std::nullopt;
  if (!run_->gone && !run_->over && random_.Chance(chaos_.coalesce)) return std::nullopt;
  auto event = std::move(run_->outbox.front());
  run_->outbox.pop_front();
  if (auto* delta = std::get_if<Delta>(&event); delta != nullptr && !run_->broken) {
    Repeat(delta->delta);
    int& count = delivered_[delta->delta.agent];
    count = std::max(count, delta->delta.first + static_cast<int>(delta->delta.tokens.size()));
  }
  if (const auto* probe = std::get_if<Probed>(&event)) {
    const bool first = answered_.emplace(probe->result.agent, probe->result.at).second;
    (first ? run_->heard : run_->again) += probe->result.sampled + probe->result.forced;
  }
  if (const auto* end = std::get_if<FamilyEnded>(&event)) {
    run_->heard = end->totals.probed - run_->again;
  }
  if (std::holds_alternative<FamilyEnded>(event) || std::holds_alternative<Lost>(event) ||
      std::holds_alternative<PlacementFailed>(event)) {
    Forget();
  }
  return event;
}

void FakeFleet::Lose() {
  if (!run_ || !run_->placed || run_->gone) return;
  // Some of what was sent still arrives.
  const size_t arrives =
      static_cast<size_t>(random_.Below(static_cast<int>(run_->outbox.size()) + 1));
  if (std::any_of(run_->outbox.begin(), run_->outbox.end(),
                  [](const auto& event) { return std::holds_alternative<FamilyEnded>(event); })) {
    return;
  }
  run_->outbox.resize(arrives);
  run_->gone = true;
  run_->silent = false;
  run_->inbox.clear();
  lost_any_ = true;
  const int places = static_cast<int>(run_->fingerprints.size());
  const bool full = places > 1 && random_.Chance(40);
  run_->outbox.push_back(
      Lost{.attempt = run_->attempt,
           .why = full ? ResourceExhausted("too many families") : Unavailable("group g was lost"),
           .place = places > 1 ? random_.Below(places) : 0});
}

}  // namespace conclave::router
