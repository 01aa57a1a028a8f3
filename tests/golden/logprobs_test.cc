#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "tests/fakes/recording_sink.h"
#include "tests/golden/equality.h"
#include "worker/engine/engine_core.h"
#include "worker/runner/local_runner.h"

// What clients are told of likely tokens, through engine and ranks, against the logits of an
// independent implementation; and rule 2 of the architecture for it.
namespace conclave::worker {
namespace {

constexpr int kTold = 20;

class Endless : public OutputPolicy {
 public:
  Verdict OnToken(const TokenEvent&) override { return {}; }
};

// What one agent starts with.
struct Start {
  std::vector<TokenId> prompt;
  std::vector<TokenEvent> produced = {};
};

// A group and an engine over it, whose turns are taken here.
class Told {
 public:
  Told(std::unique_ptr<LocalRunner> runner, int rows)
      : runner_(std::move(runner)),
        core_(std::make_shared<Engine::Core>(EngineOptions{.max_batched_tokens = rows}, *runner_,
                                             clock_)) {}

  // Greedy, to `count` tokens each. Agent i has id i + `first`.
  std::vector<std::vector<TokenEvent>> Run(const std::vector<Start>& starts, int count,
                                           int first = 0) {
    const auto sink = std::make_shared<RecordingSink>();
    FamilyStream stream(core_, *core_->Open({.seed = 5, .salt = ""}, sink));
    std::vector<AgentSpec> gang;
    for (size_t i = 0; i < starts.size(); ++i) {
      AgentSpec& agent = gang.emplace_back();
      agent.id = MakeAgentId(kThinkStage, 0, first + static_cast<int>(i));
      agent.prompt = starts[i].prompt;
      agent.produced = starts[i].produced;
      agent.sampling.temperature = 0;
      agent.rules.top_logprobs = kTold;
      agent.grant = count;
      agent.policy = std::make_unique<Endless>();
      sink->ExpectFed(agent.id, static_cast<int>(agent.produced.size()));
    }
    stream.Add(std::move(gang));
    stream.Finish();
    while (core_->Turn()) {
    }
    EXPECT_TRUE(core_->health().ok()) << core_->health();
    EXPECT_TRUE(sink->refusals().empty());
    std::vector<std::vector<TokenEvent>> tokens;
    for (size_t i = 0; i < starts.size(); ++i) {
      tokens.push_back(sink->tokens(MakeAgentId(kThinkStage, 0, first + static_cast<int>(i))));
    }
    return tokens;
  }

 private:
  RealClock clock_;
  std::unique_ptr<LocalRunner> runner_;
  std::shared_ptr<Engine::Core> core_;  // Shared with the streams.
};

absl::StatusOr<std::unique_ptr<LocalRunner>> MakeRunner(const std::string& dir, int tp) {
  LocalRunnerOptions options;
  options.model_dir = dir;
  options.tp = tp;
  options.max_slots = 64;
  options.kv_tokens = 8192;
  return LocalRunner::Create(options);
}

std::vector<std::string> Models() {
  std::vector<std::string> models;
  for (const char* parent : {"/tests/golden/data", "/../shared/muse/golden"}) {
    std::error_code error;
    for (const auto& entry :
         std::filesystem::directory_iterator(std::string(CONCLAVE_SOURCE_DIR) + parent, error)) {
      const std::string name = entry.path().filename().string();
      const bool there = std::any_of(models.begin(), models.end(), [&](const std::string& model) {
        return std::filesystem::path(model).filename() == name;
      });
      if (name.starts_with("dense_") && !there) models.push_back(entry.path().string());
    }
  }
  std::sort(models.begin(), models.end());
  return models;
}

class LogprobsTest : public testing::TestWithParam<std::string> {};

// One agent for each beginning of the golden's prompt: what it is told of its first token.
TEST_P(LogprobsTest, AreTheReferencesAtEveryDegree) {
  const auto golden = ReadGolden(GetParam());
  ASSERT_TRUE(golden.ok()) << golden.status();
  std::vector<Start> starts;
  for (size_t size = 1; size <= golden->prompt.size() && starts.size() < 64; ++size) {
    starts.push_back({.prompt = {golden->prompt.begin(), golden->prompt.begin() + size}});
  }
  int degrees = 0;
  double worst = 0;
  for (const int tp : {1, 2, 4}) {
    auto runner = MakeRunner(GetParam(), tp);
    if (!runner.ok()) continue;  // A shape that does not divide.
    const auto vocab = static_cast<size_t>((*runner)->shape().vocab_size);
    ASSERT_EQ(golden->logits.size(), golden->prompt.size() * vocab);
    const auto told = Told(*std::move(runner), 64).Run(starts, 1);
    for (size_t i = 0; i < starts.size(); ++i) {
      const float* logits = golden->logits.data() + i * vocab;
      const double most = *std::max_element(logits, logits + vocab);
      double sum = 0, greatest = 0;
      for (size_t j = 0; j < vocab; ++j) {
        sum += std::exp(logits[j] - most);
        greatest = std::max(greatest, std::abs(double{logits[j]}));
      }
      std::vector<double> falling(logits, logits + vocab);
      for (double& each : falling) each -= most + std::log(sum);
      const std::vector<double> expected = falling;
      std::sort(falling.rbegin(), falling.rend());
      ASSERT_EQ(told[i].size(), 1u);
      const TokenEvent& token = told[i][0];
      ASSERT_EQ(token.told.size(), size_t{kTold} + 1);
      EXPECT_EQ(token.told[0].id, token.id);
      EXPECT_EQ(token.told[0].logprob, token.logprob);
      EXPECT_EQ(token.told[1].id, token.id);  // The likeliest is drawn.
      for (size_t j = 0; j < kTold; ++j) {
        const RatedToken& each = token.told[j + 1];
        const double exact = expected[static_cast<size_t>(each.id)];
        worst = std::max({worst, std::abs(each.logprob - exact) / greatest,
                          std::abs(falling[j] - exact) / greatest});
      }
    }
    ++degrees;
  }
  EXPECT_GT(degrees, 1);
  EXPECT_LT(worst, 1e-4);
  std::printf("%s: %zu places, %d degrees: relative error %.1e\n", GetParam().c_str(),
              starts.size(), degrees, worst);
}

TEST_P(LogprobsTest, DependOnNothingButTheAgentsOwnTokens) {
  const auto golden = ReadGolden(GetParam());
  ASSERT_TRUE(golden.ok()) << golden.status();
  constexpr int kCount = 12;
  for (const int tp : {1, 2}) {
    auto runner = MakeRunner(GetParam(), tp);
    if (!runner.ok()) continue;
    const std::vector<TokenEvent> alone =
        Told(*std::move(runner), 512).Run({{.prompt = golden->prompt}}, kCount)[0];
    ASSERT_EQ(alone.size(), size_t{kCount});

    // Among others, the prompt in pieces.
    std::vector<Start> many(8, Start{.prompt = golden->prompt});
    for (size_t i = 1; i < many.size(); ++i) many[i].prompt.resize(many[i].prompt.size() - i);
    EXPECT_EQ(Told(*MakeRunner(GetParam(), tp), 16).Run(many, kCount)[0], alone);

    // Taken up behind some of its tokens, which come without what was told of them.
    std::vector<TokenEvent> produced(alone.begin(), alone.begin() + 5);
    for (TokenEvent& token : produced) token.told.clear();
    const std::vector<TokenEvent> rest =
        Told(*MakeRunner(GetParam(), tp), 512)
            .Run({{.prompt = golden->prompt, .produced = produced}}, kCount)[0];
    EXPECT_EQ(rest, std::vector<TokenEvent>(alone.begin() + 5, alone.end()));
  }
}

INSTANTIATE_TEST_SUITE_P(Models, LogprobsTest, testing::ValuesIn(Models()), [](const auto& each) {
  std::string name = std::filesystem::path(each.param).filename().string();
  std::erase_if(name, [](char c) { return !std::isalnum(c); });
  return name;
});
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(LogprobsTest);

}  // namespace
}  // namespace conclave::worker
