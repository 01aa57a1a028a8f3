#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/clock.h"
#include "tests/fakes/recording_sink.h"
#include "tests/fakes/thread_ranks.h"
#include "worker/engine/engine_core.h"
#include "worker/runner/local_runner.h"
#include "worker/text/text_model.h"

namespace conclave::worker {
namespace {

constexpr int kGrant = 64;
constexpr int kCancelAt = 25;
constexpr int kFamilies = 3, kAgents = 9;
constexpr int kCancelled = 8;  // This agent, when it has kCancelAt tokens.
constexpr int kForced = 3;     // This agent's thinking is ended for it.

// One way to run the same families.
struct Way {
  const char* name;
  bool group;  // GroupRunner and threads for ranks; else LocalRunner.
  int plans_in_flight;
  bool pressed;  // A pool that is too small for all who enter.
};

// What came out, by family and agent.
struct Trace {
  std::map<std::pair<int, int>, std::vector<TokenEvent>> tokens;
  std::map<std::pair<int, int>, AgentEnd> ends;
  std::map<std::pair<int, int>, std::string> texts;
  int64_t receipts = 0;  // Sampled tokens, by the families' counters.
  EngineLoad load;
};

LocalRunnerOptions OptionsOf(const Way& way, int tp) {
  LocalRunnerOptions options;
  options.model_dir = CONCLAVE_SOURCE_DIR "/models/conclave-demo";
  options.tp = tp;
  options.kv_tokens = way.pressed ? 52 * kBlockTokens : 4096;
  options.max_slots = kFamilies * kAgents;
  options.max_rows = 64;
  return options;
}

// Every kind of sampling and of end that an agent can have.
AgentSpec Agent(const TextModel& text, const RenderedPrompt& prompt, int i,
                std::shared_ptr<TextTrace> trace) {
  AgentSpec agent;
  agent.id = MakeAgentId(kThinkStage, 0, i);
  agent.prompt = prompt.tokens;
  agent.grant = kGrant;
  OutputOptions output;
  output.opening = prompt.opening;
  Sampling& how = agent.sampling;
  if (i == 1) how.temperature = 0;
  if (i == 2) {
    how.repetition_penalty = 1.3f;
    how.presence_penalty = 0.4f;
    how.frequency_penalty = 0.6f;
  }
  if (i == kForced) {
    output.budget.thinking_tokens = 12;
    how.frequency_penalty = 1.0f;  // Its history has to forget what was drawn in vain.
  }
  if (i == 4) output.stop = {"1", "2", "3", "4", "5", "6", "7", "8", "9", "0"};
  if (i == 5) how.top_k = 12, how.top_p = 0.9f;
  if (i == 6) how.min_p = 0.05f, how.temperature = 1.5f;
  if (i == 7) how.logit_bias = {{5, 2.0f}, {17, -100.0f}}, how.temperature = 1.2f;
  agent.policy = text.MakePolicy(std::move(output), std::move(trace));
  return agent;
}

class PlansInFlightTest : public testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    auto text = TextModel::Load(CONCLAVE_SOURCE_DIR "/models/conclave-demo", "");
    ASSERT_TRUE(text.ok()) << text.status();
    text_ = *std::move(text);
  }

  static absl::StatusOr<std::unique_ptr<StepRunner>> MakeRunner(const Way& way, int tp) {
    if (way.group) return ThreadRanks::Create(OptionsOf(way, tp));
    return LocalRunner::Create(OptionsOf(way, tp));
  }

  Trace Run(const Way& way, int tp) {
    auto runner = MakeRunner(way, tp);
    EXPECT_TRUE(runner.ok()) << runner.status();
    RealClock clock;
    const auto core = std::make_shared<Engine::Core>(
        EngineOptions{.plans_in_flight = way.plans_in_flight}, **runner, clock);
    const std::vector<std::string> questions = {
        "Tom has 12 apples and buys 3 boxes with 15 apples each. How many apples does Tom have?",
        "What is 17 * 6?", "What is 17 * 6?"};
    std::vector<std::unique_ptr<FamilyStream>> streams;
    std::vector<std::shared_ptr<RecordingSink>> sinks;
    std::map<std::pair<int, int>, std::shared_ptr<TextTrace>> texts;
    for (size_t f = 0; f < questions.size(); ++f) {
      const auto prompt =
          text_->Render({Message{Role::kUser, {Part{questions[f]}}}}, RenderOptions{});
      EXPECT_TRUE(prompt.ok()) << prompt.status();
      sinks.push_back(std::make_shared<RecordingSink>());
      streams.push_back(std::make_unique<FamilyStream>(
          core, *core->Open({.seed = 40 + f, .salt = ""}, sinks.back())));
      std::vector<AgentSpec> gang;
      for (int i = 0; i < kAgents; ++i) {
        const auto trace = texts[{f, i}] = std::make_shared<TextTrace>();
        gang.push_back(Agent(*text_, *prompt, i, trace));
      }
      streams.back()->Add(std::move(gang));
      streams.back()->Finish();
    }
    const AgentId cancelled = MakeAgentId(kThinkStage, 0, kCancelled);
    while (core->Turn()) {
      core->scheduler()->CheckConsistent();
      for (size_t f = 0; f < streams.size(); ++f) {
        if (sinks[f]->count(cancelled) >= kCancelAt) streams[f]->Cancel(cancelled);
      }
    }
    EXPECT_TRUE(core->health().ok()) << core->health();
    return Collect(*core, sinks, texts);
  }

  static Trace Collect(const Engine::Core& core,
                       const std::vector<std::shared_ptr<RecordingSink>>& sinks,
                       const std::map<std::pair<int, int>, std::shared_ptr<TextTrace>>& texts) {
    Trace trace;
    trace.load = core.load();
    for (const auto& [key, text] : texts) {
      const RecordingSink& sink = *sinks[static_cast<size_t>(key.first)];
      const AgentId id = MakeAgentId(kThinkStage, 0, key.second);
      trace.tokens[key] = sink.tokens(id);
      EXPECT_TRUE(sink.end(id).has_value());
      trace.ends[key] = sink.end(id).value_or(AgentEnd{});
      for (int t = 0; t < sink.count(id); ++t) {
        const TextPiece piece = text->Take(t);
        trace.texts[key] += piece.thinking + "|" + piece.answer + "|";
      }
    }
    for (const auto& sink : sinks) {
      EXPECT_TRUE(sink->counters().has_value());
      trace.receipts += sink->counters().value_or(FamilyCounters{}).sampled;
    }
    return trace;
  }

  std::unique_ptr<TextModel> text_;
};

void ExpectSame(const Trace& trace, const Trace& first) {
  for (const auto& [key, tokens] : first.tokens) {
    const std::string who = fmt::format("family {}, agent {}", key.first, key.second);
    EXPECT_EQ(trace.tokens.at(key), tokens) << who;
    EXPECT_EQ(trace.texts.at(key), first.texts.at(key)) << who;
    const AgentEnd &end = trace.ends.at(key), &other = first.ends.at(key);
    EXPECT_EQ(end.finish, other.finish) << who;
    EXPECT_EQ(end.sampled, other.sampled) << who;
    EXPECT_EQ(end.forced, other.forced) << who;
    EXPECT_EQ(end.trailing, other.trailing) << who;
  }
}

TEST_P(PlansInFlightTest, OneAndTwoGiveTheSameBytesWhateverRunsThem) {
  const int tp = GetParam();
  const Trace first = Run({"local, 1 plan", false, 1, false}, tp);
  ASSERT_EQ(first.tokens.size(), size_t{kFamilies} * kAgents);
  EXPECT_EQ(first.load.preemptions, 0);
  for (int family = 0; family < kFamilies; ++family) {
    EXPECT_EQ(first.ends.at({family, kCancelled}).finish, Finish::kCancelled);
    EXPECT_GT(first.ends.at({family, kForced}).forced, 0);
  }

  for (const Way& way :
       {Way{"local, 2 plans", false, 2, false}, Way{"local, 2 plans, small pool", false, 2, true},
        Way{"group, 1 plan, small pool", true, 1, true},
        Way{"group, 2 plans, small pool", true, 2, true}}) {
    SCOPED_TRACE(way.name);
    const Trace trace = Run(way, tp);
    ExpectSame(trace, first);
    EXPECT_EQ(trace.load.preemptions > 0, way.pressed);
    EXPECT_EQ(trace.load.overrun > 0, way.plans_in_flight == 2);
    EXPECT_EQ(trace.receipts, first.receipts);  // What was drawn in vain is on nobody's.
    EXPECT_EQ(trace.load.tokens_sampled, trace.receipts);
    printf(
        "simulated the model's families, %d ranks, %s: %ld tokens, %ld preemptions, %ld "
        "evictions, %ld overrun\n",
        tp, way.name, static_cast<long>(trace.receipts), static_cast<long>(trace.load.preemptions),
        static_cast<long>(trace.load.evictions), static_cast<long>(trace.load.overrun));
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, PlansInFlightTest, testing::Values(1, 2),
                         [](const auto& tp) { return std::to_string(tp.param); });

}  // namespace
}  // namespace conclave::worker
