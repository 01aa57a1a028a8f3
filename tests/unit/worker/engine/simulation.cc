#include "tests/unit/worker/engine/simulation.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "common/status.h"
#include "tests/unit/worker/engine/engine_fixture.h"

namespace conclave::worker {
namespace {

constexpr int kMostTurns = 20'000;

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
    }
    LetGo();
    for (int i = 0; i < kMostTurns && wrong_.empty() && Turn(); ++i) {
    }
    for (Family& family : families_) CheckFamily(family);
    CheckEmpty();
    Count();
    return wrong_;
  }

 private:
  struct Family {
    uint64_t seed = 0;
    EngineFixture::Opened opened;
    std::vector<AgentPlan> agents;  // Asked for; refused ones too.
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
    like.rules.force = DrawTokens(1 + Below(20));
    std::vector<AgentPlan> gang(1 + Below(pressed_ ? 8 : 1 + Below(5)), like);
    const bool apart = OneIn(3), resumed = OneIn(4);
    for (AgentPlan& agent : gang) {
      agent.id = MakeAgentId(0, 0, family.next_index++);
      if (apart) {
        const std::vector<TokenId> role = DrawTokens(1 + Below(12));
        agent.prompt.insert(agent.prompt.end(), role.begin(), role.end());
      }
      if (resumed) Resume(family, agent);
    }
    family.opened.stream->Add(Specs(gang));
    for (AgentPlan& agent : gang) family.agents.push_back(std::move(agent));
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

  bool Turn() {
    const bool stepped = fixture_.Turn();
    for (const Family& family : families_) {
      for (const AgentPlan& agent : family.agents) {
        const auto fed = agent.produced.size();
        const auto count = fed + family.opened.sink->tokens(agent.id).size();
        Expect(count <= std::max(fed, static_cast<size_t>(agent.run_to)),
               fmt::format("{} tokens; run_to is {}", count, agent.run_to));
        if (count == static_cast<size_t>(agent.run_to)) ++totals_.waits;
      }
    }
    return stepped;
  }

  void CheckFamily(Family& family) {
    const RecordingSink& sink = *family.opened.sink;
    const auto counters = sink.counters();
    Expect(counters.has_value(), "a family did not end");
    if (!counters.has_value()) return;
    FamilyCounters sum;
    int64_t prompts = 0;
    std::vector<AgentId> refused;
    for (const auto& refusal : sink.refusals()) {
      refused.insert(refused.end(), refusal.gang.begin(), refusal.gang.end());
      const auto code = refusal.why.code();
      Expect(code == absl::StatusCode::kResourceExhausted ||
                 code == absl::StatusCode::kOutOfRange ||
                 (code == absl::StatusCode::kFailedPrecondition && family.finished),
             refusal.why.ToString());
    }
    for (const AgentPlan& agent : family.agents) {
      const auto end = sink.end(agent.id);
      if (!end.has_value()) {  // A family that was released took no more commands.
        Expect(family.finished || std::count(refused.begin(), refused.end(), agent.id) == 1,
               "an agent neither ended nor was refused");
        continue;
      }
      CheckAgent(family, agent, *end);
      prompts += static_cast<int64_t>(agent.prompt.size());
      sum.sampled += end->sampled;
      sum.forced += end->forced;
      sum.fed += end->fed;
    }
    Expect(counters->sampled == sum.sampled && counters->forced == sum.forced &&
               counters->fed == sum.fed,
           "the agents' ends do not sum to the family's counters");
    Expect(counters->prompt_computed + counters->prompt_shared == prompts,
           fmt::format("{} + {} prompt tokens; the prompts have {}", counters->prompt_computed,
                       counters->prompt_shared, prompts));
    totals_.recomputed += counters->recomputed;
    totals_.shared += counters->prompt_shared;
    totals_.forced += counters->forced;
    totals_.refused += static_cast<int64_t>(refused.size());
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
    ++totals_.agents;
    totals_.cancelled += cancelled ? 1 : 0;
    totals_.resumed += agent.produced.empty() ? 0 : 1;
  }

  void CheckEmpty() {
    const EngineLoad load = fixture_.core->load();
    Expect(load.agents_running == 0 && load.blocks_free == load.blocks_total &&
               load.queued_prompt_tokens == 0,
           "the engine is not empty at the end");
    if (!wrong_.empty()) return;
    Family family;
    family.seed = 1;
    family.opened = fixture_.Open(family.seed);
    AgentPlan last;
    last.prompt = {1};
    last.grant = 2;
    family.agents = {last};
    family.opened.stream->Add(Specs(family.agents));
    family.opened.stream->Finish();
    fixture_.RunDry();
    CheckFamily(family);
    Expect(family.opened.sink->accepted() == 1, "an empty engine refuses an agent");
  }

  void Count() {
    const EngineLoad load = fixture_.core->load();
    const FakeStepRunner::Totals ran = fixture_.runner.totals();
    totals_.preemptions += load.preemptions;
    totals_.overrun += load.overrun;
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
  std::string wrong_;
};

}  // namespace

std::string Simulate(uint64_t seed, SimulationTotals& totals) {
  return History(seed, totals).Run();
}

}  // namespace conclave::worker
