#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "tests/fakes/recording_sink.h"
#include "tests/golden/equality.h"
#include "worker/engine/engine_core.h"
#include "worker/runner/local_runner.h"

// Copies that are asked for their answer, with real mathematics: their agents' bits are those that
// they have without them, and their own those of an agent that came to the same place by itself.
namespace conclave::worker {
namespace {

constexpr int kEvery = 16, kAsked = 6, kGrant = 56;

class Thinks : public OutputPolicy {
 public:
  Verdict OnToken(const TokenEvent&) override {
    Verdict verdict;
    verdict.thinks = true;
    return verdict;
  }
};

struct Told {
  std::vector<std::vector<TokenEvent>> tokens;  // Of each agent.
  std::vector<std::vector<RecordingSink::Probe>> probes;
};

// A group and an engine over it, whose turns are taken here.
class Group {
 public:
  Group(std::unique_ptr<LocalRunner> runner, int plans)
      : runner_(std::move(runner)),
        core_(std::make_shared<Engine::Core>(EngineOptions{.plans_in_flight = plans}, *runner_,
                                             clock_)) {}

  Told All(std::vector<AgentSpec> gang) {
    const auto sink = std::make_shared<RecordingSink>();
    FamilyStream stream(core_, *core_->Open({.seed = 5, .salt = ""}, sink));
    std::vector<AgentId> ids;
    for (const AgentSpec& agent : gang) {
      ids.push_back(agent.id);
      sink->ExpectFed(agent.id, static_cast<int>(agent.produced.size()));
    }
    stream.Add(std::move(gang));
    stream.Finish();
    while (core_->Turn()) {
      core_->scheduler()->CheckConsistent();
    }
    EXPECT_TRUE(core_->health().ok()) << core_->health();
    EXPECT_TRUE(sink->refusals().empty());
    Told run;
    for (const AgentId id : ids) {
      run.tokens.push_back(sink->tokens(id));
      run.probes.push_back(sink->probes(id));
    }
    return run;
  }

 private:
  RealClock clock_;
  std::unique_ptr<LocalRunner> runner_;
  std::shared_ptr<Engine::Core> core_;  // Shared with the streams.
};

AgentSpec Agent(int index, const std::vector<TokenId>& prompt, float temperature) {
  AgentSpec agent;
  agent.id = MakeAgentId(kThinkStage, 0, index);
  agent.prompt = prompt;
  agent.sampling.temperature = temperature;
  agent.grant = kGrant;
  agent.policy = std::make_unique<Thinks>();
  return agent;
}

std::vector<AgentSpec> Gang(const std::vector<TokenId>& prompt, float temperature, bool asked) {
  std::vector<AgentSpec> gang;
  for (int i = 0; i < 3; ++i) {
    gang.push_back(Agent(i, prompt, temperature));
    if (!asked) continue;
    gang.back().probes = {.every = kEvery, .tokens = kAsked, .force = {3, 4, 5}, .policy = [] {
                            return std::make_unique<Thinks>();
                          }};
  }
  return gang;
}

absl::StatusOr<std::unique_ptr<LocalRunner>> MakeRunner(const std::string& dir, int tp) {
  LocalRunnerOptions options;
  options.model_dir = dir;
  options.tp = tp;
  options.max_slots = 8;
  options.kv_tokens = 2048;
  return LocalRunner::Create(options);
}

std::vector<std::string> Models() {
  std::vector<std::string> models;
  for (const auto& entry :
       std::filesystem::directory_iterator(CONCLAVE_SOURCE_DIR "/tests/golden/data")) {
    if (entry.path().filename().string().starts_with("dense_")) models.push_back(entry.path());
  }
  std::sort(models.begin(), models.end());
  return models;
}

class GoldenProbesTest : public testing::TestWithParam<std::string> {};

TEST_P(GoldenProbesTest, AgentsDrawTheSameWithAndWithoutAtEveryDegree) {
  const auto golden = ReadGolden(GetParam());
  ASSERT_TRUE(golden.ok()) << golden.status();
  for (const int tp : {1, 2}) {
    for (const int plans : {1, 2}) {
      auto runner = MakeRunner(GetParam(), tp);
      if (!runner.ok()) continue;  // A shape that does not divide.
      Group group(*std::move(runner), plans);

      const Told with = group.All(Gang(golden->prompt, 1, true));
      const Told without = group.All(Gang(golden->prompt, 1, false));

      EXPECT_EQ(with.tokens, without.tokens) << tp << " " << plans;
      EXPECT_EQ(with.probes[0].size(), 3u);
    }
  }
}

// At temperature 0 the id does not matter: so an agent that brings the same tokens goes on alike.
TEST_P(GoldenProbesTest, ACopySaysWhatAnAgentWithItsTokensSays) {
  const auto golden = ReadGolden(GetParam());
  ASSERT_TRUE(golden.ok()) << golden.status();
  for (const int tp : {1, 2}) {
    auto runner = MakeRunner(GetParam(), tp);
    if (!runner.ok()) continue;
    const Told asked = Group(*std::move(runner), 1).All(Gang(golden->prompt, 0, true));
    for (const RecordingSink::Probe& probe : asked.probes[1]) {
      AgentSpec agent = Agent(1, golden->prompt, 0);
      agent.grant = probe.at + static_cast<int>(probe.tokens.size());
      agent.produced = {asked.tokens[1].begin(), asked.tokens[1].begin() + probe.at};
      agent.produced.insert(agent.produced.end(), probe.tokens.begin(), probe.tokens.begin() + 3);
      std::vector<AgentSpec> alone;
      alone.push_back(std::move(agent));
      auto fresh = MakeRunner(GetParam(), tp);
      ASSERT_TRUE(fresh.ok());

      const Told resumed = Group(*std::move(fresh), 1).All(std::move(alone));

      EXPECT_EQ(resumed.tokens[0],
                std::vector<TokenEvent>(probe.tokens.begin() + 3, probe.tokens.end()))
          << tp << " " << probe.at;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenProbesTest, testing::ValuesIn(Models()),
                         [](const auto& model) {
                           return std::filesystem::path(model.param).filename().string();
                         });

}  // namespace
}  // namespace conclave::worker
