#include "tests/unit/worker/engine/simulation.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "common/status.h"
#include "tests/unit/worker/engine/engine_fixture.h"

namespace conclave::worker {
namespace {

class History {
 public:
  History(uint64_t seed, SimulationTotals& totals)
      : random_(seed), totals_(totals), shape_(DrawShape()), fixture_(shape_, DrawOptions()) {
    // Short prompts and long answers: all enter, and then grow out of the room there is.
    for (int i = 0; i < 3; ++i) bases_.push_back(DrawTokens(Below(pressed_ ? 20 : 60) + 1));
  }

  std::string Run() {
    const int actions = 5 + Below(30);
    for (int i = 0; i < actions && wrong_.empty(); ++i) {
      Act();
      const int turns = Below(6);
      for (int t = 0; t < turns && wrong_.empty(); ++t) Turn();
      if (OneIn(20)) RunDry();
    }
    LetGo();
    RunDry();
    for (Family& family : families_) CheckFamily(family);
    CheckEmpty();
    Count();
    return wrong_;
  }

 private:
  struct Family {
    uint64_t seed = 0;
    EngineFixture::Opened opened;
    std::vector<AgentPlan> agents;              // Asked for; refused ones too.
    std::vector<std::vector<AgentPlan>> gangs;  // In order of their Adds.
    bool finished = false;
    int next_index = 0;
  };

  int Below(int n) { return static_cast<int>(random_() % static_cast<uint64_t>(n)); }
  bool OneIn(int n) { return Below(n) == 0; }
  void Expect(bool condition, const std::string& what) {
    if (!condition && wrong_.empty()) wrong_ = what;
  }

  GroupShape DrawShape() {
    GroupShape shape = SmallShape();
    shape.max_slots = (pressed_ ? 6 : 1) + Below(10);
    shape.max_rows = 1 + Below(50);
    shape.max_samples = 1 + Below(shape.max_slots);
    shape.max_positions = 150;
    shape.vocab_size = 20 + Below(300);
    shape.pools.assign(1 + Below(2), {.num_blocks = 5 + Below(25)});
    return shape;
  }

  EngineOptions DrawOptions() {
    EngineOptions options;
    options.max_batched_tokens = 1 + Below(60);
    options.plans_in_flight = 1 + Below(2);
    return options;
  }

  std::vector<TokenId> DrawTokens(int count) {
    std::vector<TokenId> tokens(count);
    for (TokenId& token : tokens) token = Below(20);
    return tokens;
  }

  void Act() {
    if (families_.empty() || OneIn(5)) return OpenFamily();
    Family& family = families_[Below(static_cast<int>(families_.size()))];
    switch (Below(10)) {
      case 0:
        family.opened.stream->Finish();
        family.finished = true;
        break;
      case 1:
        family.opened.stream.reset();
        family.opened.stream = std::make_unique<FamilyStream>(fixture_.core, 0);
        family.finished = true;
        break;
      case 2:
      case 3:
        if (!family.agents.empty()) {
          const AgentPlan& agent = family.agents[Below(static_cast<int>(family.agents.size()))];
          family.opened.stream->Cancel(agent.id);
        }
        break;
      case 4:
      case 5:
        RaiseAll(family, Below(20));
        break;
      case 6:
        if (!family.opened.sink->refusals().empty()) {
          AddAgain(family);
          break;
        }
        [[fallthrough]];
      default:
        AddGang(family);
    }
  }

  void OpenFamily() {
    Family family;
    family.seed = random_();
    family.opened = fixture_.Open(family.seed, OneIn(4) ? "another tenant" : "");
    families_.push_back(std::move(family));
  }

  void AddGang(Family& family) {
    AgentPlan like;
    like.prompt = bases_[Below(3)];
    if (OneIn(2)) like.prompt.resize(1 + Below(static_cast<int>(like.prompt.size())));
    like.grant = pressed_ ? 40 + Below(70) : 1 + Below(OneIn(2) ? 90 : 20);
    like.penalty = OneIn(4);
    if (OneIn(3)) like.run_to = Below(20);
    if (!pressed_ && OneIn(2)) like.rules.stop_every = 15 + Below(60);
    if (OneIn(3)) like.rules.force_every = 3 + Below(20);
    if (OneIn(4)) like.rules.force_at = 1 + Below(10);
    if (OneIn(4)) like.bar = {.bar = 0.25 * (12 + Below(24)), .window = 1 + Below(12)};
    like.rules.force = DrawTokens(1 + Below(20));
    if (OneIn(3)) DrawProbes(like);
    std::vector<AgentPlan> gang(1 + Below(pressed_ ? 8 : 1 + Below(5)), like);
    const bool apart = OneIn(3), resumed = OneIn(4);
    for (AgentPlan& agent : gang) {
      agent.id = MakeAgentId(0, 0, family.next_index++);
      if (apart) {
        const std::vector<TokenId> role = DrawTokens(1 + Below(12));
        agent.prompt.insert(agent.prompt.end(), role.begin(), role.end());
      }
      if (resumed && !OneIn(4)) Resume(family, agent);
    }
    // Most gangs are as wide as can be: with grants that others promised themselves, too.
    if (!OneIn(4)) gang.resize(static_cast<size_t>(std::max(1, WidthThatFits(gang, shape_))));
    family.opened.stream->Add(Specs(gang));
    family.agents.insert(family.agents.end(), gang.begin(), gang.end());
    family.gangs.push_back(std::move(gang));
  }

  void DrawProbes(AgentPlan& agent) {
    agent.rules.thinks_for = 10 + Below(100);
    agent.probe_every = 1 + Below(30);
    agent.probe_tokens = 1 + Below(12);
    agent.probe_force = DrawTokens(1 + Below(6));
    if (OneIn(2)) agent.probe_rules.stop_every = 3 + Below(20);
  }

  // As a router does with agents that were refused: the same ones, later.
  void AddAgain(Family& family) {
    const auto refusals = family.opened.sink->refusals();
    const AgentId first = refusals[Below(static_cast<int>(refusals.size()))].gang.front();
    const auto gang = std::find_if(family.gangs.begin(), family.gangs.end(),
                                   [&](const auto& each) { return each.front().id == first; });
    Expect(gang != family.gangs.end(), "a gang was refused that nobody added");
    if (gang == family.gangs.end() || family.opened.sink->accepted(first)) return;
    std::vector<AgentPlan> again;
    for (const AgentPlan& agent : family.agents) {  // With the run_to that they have by now.
      for (const AgentPlan& refused : *gang) {
        if (refused.id == agent.id) again.push_back(agent);
      }
    }
    family.opened.stream->Add(Specs(again));
    family.gangs.push_back(std::move(again));
    Turn();
    ++totals_.tried_again;
  }

  void Resume(Family& family, AgentPlan& agent) {
    const Expected all = RunAlone(agent, family.seed, shape_.vocab_size);
    agent.produced = all.tokens;
    agent.produced.resize(1 + Below(static_cast<int>(all.tokens.size())));
    family.opened.sink->ExpectFed(agent.id, static_cast<int>(agent.produced.size()));
  }

  void RaiseAll(Family& family, int by) {
    for (AgentPlan& agent : family.agents) {
      if (agent.run_to == INT32_MAX) continue;
      agent.run_to += by;
      family.opened.stream->RunTo(agent.id, agent.run_to);
    }
  }

  // After this, everything that was accepted can end.
  void LetGo() {
    for (Family& family : families_) {
      RaiseAll(family, 1000);
      family.opened.stream->Finish();
    }
  }

  void RunDry() {
    while (wrong_.empty() && Turn()) {
    }
  }

  // One turn of the engine, and what must hold after each: nobody is beyond run_to; when nothing is
  // left to do, whoever has not ended waits there; and somebody gets a token within as many steps
  // as it takes to compute all tokens that there are twice, a row a step.
  bool Turn() {
    const bool stepped = fixture_.Turn();
    size_t told = 0, known = 0;
    for (const Family& family : families_) {
      const RecordingSink& sink = *family.opened.sink;
      for (const AgentPlan& agent : family.agents) {
        const auto fed = agent.produced.size();
        const auto count = fed + static_cast<size_t>(sink.count(agent.id));
        Expect(count <= std::max(fed, static_cast<size_t>(agent.run_to)),
               fmt::format("{} tokens; run_to is {}", count, agent.run_to));
        told += count - fed;
        for (const auto& probe : sink.probes(agent.id)) told += probe.tokens.size();
        if (!sink.accepted(agent.id) || sink.end(agent.id).has_value()) continue;
        known += agent.prompt.size() + count + agent.probe_force.size() +
                 static_cast<size_t>(agent.probe_tokens);
        const bool waits = count >= static_cast<size_t>(agent.run_to);
        if (waits) ++totals_.waits;
        Expect(stepped || waits,
               fmt::format("agent {} of {} tokens waits for nothing", IndexOf(agent.id), count));
      }
    }
    const bool in_vain = stepped && told == told_;
    turns_in_vain_ = in_vain ? turns_in_vain_ + 1 : 0;
    known_ = in_vain ? std::max(known_, known) : known;
    told_ = told;
    Expect(turns_in_vain_ <= 2 * known_ + 10,
           fmt::format("{} turns without a token; {} are known", turns_in_vain_, known_));
    totals_.longest_wait = std::max(totals_.longest_wait, static_cast<int64_t>(turns_in_vain_));
    return stepped;
  }

  void CheckFamily(Family& family) {
    const RecordingSink& sink = *family.opened.sink;
    const auto counters = sink.counters();
    Expect(counters.has_value(), "a family did not end");
    if (!counters.has_value()) return;
    FamilyCounters sum;
    int64_t prompts = 0;
    CheckAnswers(family);
    for (const AgentPlan& agent : family.agents) {
      const auto end = sink.end(agent.id);
      Expect(end.has_value() == sink.accepted(agent.id), "an agent entered and did not end");
      if (!end.has_value()) continue;
      CheckAgent(family, agent, *end);
      prompts += static_cast<int64_t>(agent.prompt.size());
      sum.sampled += end->sampled;
      sum.forced += end->forced;
      sum.fed += end->fed;
      for (const auto& probe : sink.probes(agent.id)) {
        sum.probed += static_cast<int64_t>(probe.tokens.size());
      }
    }
    Expect(counters->probed >= sum.probed, "answers of copies that the counters do not know");
    probed_ += counters->probed;
    Expect(counters->sampled == sum.sampled && counters->forced == sum.forced &&
               counters->fed == sum.fed,
           "the agents' ends do not sum to the family's counters");
    Expect(counters->prompt_computed + counters->prompt_shared == prompts,
           fmt::format("{} + {} prompt tokens; the prompts have {}", counters->prompt_computed,
                       counters->prompt_shared, prompts));
    totals_.recomputed += counters->recomputed;
    totals_.shared += counters->prompt_shared;
    totals_.forced += counters->forced;
  }

  // Gangs are answered in order: an agent that can never fit is refused with the width that can,
  // and nobody else is.
  void CheckAnswers(const Family& family) {
    const RecordingSink& sink = *family.opened.sink;
    const auto refusals = sink.refusals();
    std::set<AgentId> accepted;
    size_t next = 0;
    for (const std::vector<AgentPlan>& gang : family.gangs) {
      const int width = WidthThatFits(gang, shape_);
      const bool fits = width == static_cast<int>(gang.size());
      const bool refused = next < refusals.size() && refusals[next].gang.front() == gang.front().id;
      if (!refused) {  // A family that was released took no more commands.
        if (!sink.accepted(gang.front().id)) {
          Expect(family.finished, "a gang was not answered");
          continue;
        }
        Expect(fits && accepted.insert(gang.front().id).second, "a gang that cannot fit entered");
        for (const AgentPlan& agent : gang) {
          Expect(sink.accepted(agent.id), "a gang entered in part");
        }
        continue;
      }
      const RecordingSink::Refusal& refusal = refusals[next++];
      const auto code = refusal.why.code();
      Expect(refusal.gang.size() == gang.size(), "a gang was refused in part");
      if (code == absl::StatusCode::kOutOfRange) {
        ++totals_.never_fit;
        Expect(!fits && refusal.width == width,
               fmt::format("{}; width {}, not {}", MessageOf(refusal.why), refusal.width, width));
      } else if (code == absl::StatusCode::kResourceExhausted) {
        ++totals_.refused;
        Expect(fits && refusal.width == 0, "a gang that can never fit is told to come back");
      } else {
        Expect(code == absl::StatusCode::kFailedPrecondition && family.finished,
               refusal.why.ToString());
      }
    }
    Expect(next == refusals.size(), "a refusal of nobody");
  }

  void CheckAgent(const Family& family, const AgentPlan& agent, const AgentEnd& end) {
    const Expected alone = RunAlone(agent, family.seed, shape_.vocab_size);
    std::vector<TokenEvent> tokens = agent.produced;
    const auto told = family.opened.sink->tokens(agent.id);
    tokens.insert(tokens.end(), told.begin(), told.end());
    const bool cancelled = end.finish == Finish::kCancelled;
    Expect(tokens.size() <= alone.tokens.size() &&
               std::equal(tokens.begin(), tokens.end(), alone.tokens.begin()),
           fmt::format("agent {}: not the tokens that it draws alone", IndexOf(agent.id)));
    Expect(cancelled || (tokens.size() == alone.tokens.size() && end.finish == alone.end.finish &&
                         end.trailing == alone.end.trailing),
           fmt::format("agent {}: not the end that it has alone", IndexOf(agent.id)));
    CheckProbes(family, agent, alone, tokens.size());
    ++totals_.agents;
    totals_.cancelled += cancelled ? 1 : 0;
    totals_.barred += end.finish == Finish::kBar ? 1 : 0;
    totals_.resumed += agent.produced.empty() ? 0 : 1;
  }

  // Copies say what they say alone, in time; only those may be missing whose agent ended before it
  // had to wait for them, or was resumed behind that.
  void CheckProbes(const Family& family, const AgentPlan& agent, const Expected& alone,
                   size_t count) {
    const std::vector<RecordingSink::Probe> told = family.opened.sink->probes(agent.id);
    auto next = told.begin();
    for (const RecordingSink::Probe& probe : alone.probes) {
      const auto until = static_cast<size_t>(probe.at + agent.probe_every);
      const bool before = until < agent.produced.size();
      if (next != told.end() && next->at == probe.at) {
        Expect(next->tokens == probe.tokens && !before,
               fmt::format("the copy at {} is not the one that there is alone", probe.at));
        Expect(static_cast<size_t>(next->count) <= until,
               fmt::format("the copy at {} answered at {}", probe.at, next->count));
        ++totals_.probes;
        ++next;
      } else {
        Expect(before || count <= until, fmt::format("nobody asked at {} of {}", probe.at, count));
      }
    }
    Expect(next == told.end(), "a copy that there is not alone");
  }

  void CheckEmpty() {
    const EngineLoad load = fixture_.core->load();
    Expect(load.agents_running == 0 && load.blocks_free == load.blocks_total &&
               load.queued_prompt_tokens == 0,
           "the engine is not empty at the end");
    if (!wrong_.empty()) return;
    AgentPlan last;
    last.prompt = {1};
    last.grant = 2;
    RunInEmptyEngine({last});
    // Whoever was told to come back finds room at the latest now.
    std::vector<std::pair<uint64_t, std::vector<AgentPlan>>> refused;
    for (const Family& family : families_) {
      for (const auto& refusal : family.opened.sink->refusals()) {
        if (refusal.why.code() != absl::StatusCode::kResourceExhausted || !OneIn(3)) continue;
        const auto gang =
            std::find_if(family.gangs.begin(), family.gangs.end(),
                         [&](const auto& each) { return each.front().id == refusal.gang.front(); });
        refused.emplace_back(family.seed, *gang);
      }
    }
    for (auto& [seed, gang] : refused) RunInEmptyEngine(std::move(gang), seed);
  }

  void RunInEmptyEngine(std::vector<AgentPlan> gang, uint64_t seed = 1) {
    Family family;
    family.seed = seed;
    family.opened = fixture_.Open(seed);
    for (AgentPlan& agent : gang) {
      agent.run_to = INT32_MAX;
      const auto fed = static_cast<int>(agent.produced.size());
      if (fed > 0) family.opened.sink->ExpectFed(agent.id, fed);
    }
    family.opened.stream->Add(Specs(gang));
    family.opened.stream->Finish();
    family.agents = gang;
    family.gangs = {std::move(gang)};
    families_.push_back(std::move(family));
    RunDry();
    CheckFamily(families_.back());
    Expect(families_.back().opened.sink->accepted(families_.back().agents[0].id),
           "an empty engine refuses a gang that fits");
  }

  void Count() {
    const EngineLoad load = fixture_.core->load();
    const FakeStepRunner::Totals ran = fixture_.runner.totals();
    Expect(load.probe_tokens == probed_, "the families' tokens of copies are not the engine's");
    totals_.probes_dropped += load.probes_dropped;
    totals_.preemptions += load.preemptions;
    totals_.overrun += load.overrun;
    totals_.evictions += load.evictions;
    totals_.steps += ran.steps;
    totals_.copies += ran.copies;
    totals_.truncations += ran.truncations;
  }

  std::mt19937_64 random_;
  const bool pressed_ = OneIn(2);
  SimulationTotals& totals_;
  const GroupShape shape_;
  EngineFixture fixture_;
  std::vector<std::vector<TokenId>> bases_;
  std::vector<Family> families_;
  size_t told_ = 0, known_ = 0, turns_in_vain_ = 0;
  int64_t probed_ = 0;
  std::string wrong_;
};

}  // namespace

std::string Simulate(uint64_t seed, SimulationTotals& totals) {
  return History(seed, totals).Run();
}

}  // namespace conclave::worker
