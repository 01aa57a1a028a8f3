#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "tests/fakes/recording_sink.h"
#include "worker/backend/random.h"
#include "worker/engine/engine_core.h"
#include "worker/runner/local_runner.h"

// Penalties and logit bias from the agent's spec to its tokens: engine, slots and sampler together.
namespace conclave::worker {
namespace {

constexpr uint64_t kSeed = 11;
constexpr int kGrant = 20;
constexpr int kForceAt = 6;
const std::vector<TokenId> kPrompt = {5, 17, 33, 2, 9, 40, 5, 5, 17};
const std::vector<TokenId> kForced = {60, 61, 60};

LocalRunnerOptions Options(int tp) {
  LocalRunnerOptions options;
  options.model_dir = CONCLAVE_SOURCE_DIR "/tests/golden/data/dense_llama";
  options.tp = tp;
  options.kv_tokens = 64 * kBlockTokens;
  options.max_slots = 8;
  options.max_rows = 16;
  return options;
}

// Forces tokens once, so that what was drawn ahead is overtaken and its history taken back.
class ForceOnce : public OutputPolicy {
 public:
  Verdict OnToken(const TokenEvent&) override {
    Verdict verdict;
    if (++count_ == kForceAt) {
      verdict.kind = Verdict::Kind::kForce;
      verdict.force = kForced;
    }
    return verdict;
  }

 private:
  int count_ = 0;
};

std::vector<Sampling> Ways() {
  std::vector<Sampling> ways(6);
  for (Sampling& way : ways) way.temperature = 0;
  ways[1].repetition_penalty = 1.6f;
  ways[2].presence_penalty = 1.5f;
  ways[3].frequency_penalty = 0.7f;
  ways[4].logit_bias = {{60, 3.5f}, {110, -100}};
  ways[5] = {.repetition_penalty = 1.3f,
             .presence_penalty = -0.5f,
             .frequency_penalty = 0.4f,
             .logit_bias = {{7, 2}},
             .temperature = 1};
  return ways;
}

AgentId Agent(size_t way) { return MakeAgentId(kThinkStage, 0, static_cast<int>(way)); }

// The definition: one sequence alone, raw logits row by row, and books of its own.
std::vector<TokenId> Reference(const Sampling& s, AgentId agent) {
  const auto runner = LocalRunner::Create(Options(1));
  EXPECT_TRUE(runner.ok()) << runner.status();
  std::vector<TokenId> all = kPrompt;
  uint64_t number = 0;
  std::vector<float> logits;
  const auto run = [&](int position) {
    StepPlan plan;
    plan.number = ++number;
    if (position == 0) {
      plan.slots.emplace_back();
      plan.slots[0].blocks = {{0, 1, 2, 3}};
    }
    plan.rows = {{0, position, all[static_cast<size_t>(position)]}};
    plan.samples = {{0, 0, 0}};
    EXPECT_TRUE((*runner)->Submit(plan).ok());
    EXPECT_TRUE((*runner)->Await().ok());
    logits = (*(*runner)->rank(0).LastLogits())[0];
  };
  for (int i = 0; i + 1 < static_cast<int>(kPrompt.size()); ++i) run(i);
  std::map<TokenId, int> produced;
  while (all.size() < kPrompt.size() + kGrant) {
    const size_t index = all.size() - kPrompt.size();
    run(static_cast<int>(all.size()) - 1);
    TokenId best = -1;
    float most = 0;
    for (TokenId id = 0; id < static_cast<TokenId>(logits.size()); ++id) {
      float x = logits[static_cast<size_t>(id)];
      if (std::find(all.begin(), all.end(), id) != all.end())
        x = x > 0 ? x / s.repetition_penalty : x * s.repetition_penalty;
      if (produced.contains(id))
        x -= s.presence_penalty + s.frequency_penalty * static_cast<float>(produced[id]);
      for (const auto& [biased, bias] : s.logit_bias) x += biased == id ? bias : 0;
      if (s.temperature > 0)
        x = x / s.temperature + GumbelNoise(kSeed, static_cast<uint32_t>(agent),
                                            static_cast<uint32_t>(index),
                                            static_cast<uint32_t>(id));
      if (best < 0 || x > most) best = id, most = x;
    }
    const bool forced = index >= kForceAt && index < kForceAt + kForced.size();
    all.push_back(forced ? kForced[index - kForceAt] : best);
    ++produced[all.back()];
  }
  return {all.begin() + static_cast<std::ptrdiff_t>(kPrompt.size()), all.end()};
}

struct Ran {
  std::map<AgentId, std::vector<TokenEvent>> tokens;
  int64_t overrun = 0;
};

// All ways at a time in one engine; each agent brings its first `fed` tokens of `before`.
Ran RunAll(int tp, int plans, int fed = 0, const Ran& before = {}) {
  const auto runner = LocalRunner::Create(Options(tp));
  EXPECT_TRUE(runner.ok()) << runner.status();
  RealClock clock;
  EngineOptions options;
  options.plans_in_flight = plans;
  options.max_batched_tokens = 16;
  const auto core = std::make_shared<Engine::Core>(options, **runner, clock);
  const auto sink = std::make_shared<RecordingSink>();
  const auto key = core->Open({kSeed, ""}, sink);
  EXPECT_TRUE(key.ok());
  FamilyStream stream(core, *key);
  const std::vector<Sampling> ways = Ways();
  std::vector<AgentSpec> gang(ways.size());
  for (size_t i = 0; i < ways.size(); ++i) {
    gang[i].id = Agent(i);
    gang[i].prompt = kPrompt;
    gang[i].sampling = ways[i];
    gang[i].grant = kGrant;
    gang[i].policy = std::make_unique<ForceOnce>();
    if (fed == 0) continue;
    const std::vector<TokenEvent>& all = before.tokens.at(Agent(i));
    gang[i].produced = {all.begin(), all.begin() + fed};
    sink->ExpectFed(Agent(i), fed);
  }
  stream.Add(std::move(gang));
  stream.Finish();
  while (core->Turn()) {
  }
  EXPECT_TRUE(core->health().ok()) << core->health();
  Ran ran;
  for (size_t i = 0; i < ways.size(); ++i) {
    ran.tokens[Agent(i)] = sink->tokens(Agent(i));
    if (fed == 0) continue;
    const std::vector<TokenEvent>& all = before.tokens.at(Agent(i));
    ran.tokens[Agent(i)].insert(ran.tokens[Agent(i)].begin(), all.begin(), all.begin() + fed);
  }
  ran.overrun = core->load().overrun;
  return ran;
}

std::vector<TokenId> IdsOf(const std::vector<TokenEvent>& tokens) {
  std::vector<TokenId> ids;
  for (const TokenEvent& token : tokens) ids.push_back(token.id);
  return ids;
}

TEST(PenaltiesTest, TokensAreTheDefinitionsOnEveryNumberOfRanksAndOfPlansInFlight) {
  const std::vector<Sampling> ways = Ways();
  std::vector<std::vector<TokenId>> expected;
  for (size_t i = 0; i < ways.size(); ++i) {
    expected.push_back(Reference(ways[i], Agent(i)));
    if (i > 0) {
      EXPECT_NE(expected[i], expected[0]) << "way " << i << " changes nothing here";
    }
  }
  for (const int tp : {1, 2, 4}) {
    for (const int plans : {1, 2}) {
      const Ran ran = RunAll(tp, plans);
      EXPECT_EQ(ran.overrun > 0, plans == 2);
      for (size_t i = 0; i < ways.size(); ++i) {
        EXPECT_EQ(IdsOf(ran.tokens.at(Agent(i))), expected[i])
            << "way " << i << ", " << tp << " ranks, " << plans << " plans";
      }
    }
  }
}

TEST(PenaltiesTest, AResumedAgentsPenaltiesRememberWhatItProducedElsewhere) {
  const Ran whole = RunAll(1, 1);
  for (const int fed : {1, kForceAt, kForceAt + 2, 15}) {
    for (const int plans : {1, 2})
      EXPECT_EQ(RunAll(1, plans, fed, whole).tokens, whole.tokens) << fed;
  }
}

}  // namespace
}  // namespace conclave::worker
