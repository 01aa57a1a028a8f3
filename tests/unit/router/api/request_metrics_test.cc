#include "router/api/request_metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <sstream>

#include "tests/unit/router/api/held.h"

// What is counted, against what the receipts say.
namespace conclave::router {
namespace {

using ::testing::Contains;
using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::Key;
using ::testing::Not;

using Page = std::map<std::string, double>;  // Series and their values.

Page Read(const Metrics& metrics) {
  Page page;
  std::istringstream text(metrics.Text());
  for (std::string line; std::getline(text, line);) {
    const size_t space = line.rfind(' ');
    if (line[0] != '#') page[line.substr(0, space)] = std::stod(line.substr(space + 1));
  }
  return page;
}

double Of(const Page& page, const std::string& name, const std::string& label = "",
          const std::string& value = "") {
  const auto found = page.find(
      label.empty()     ? fmt::format("{}{{model=\"demo\"}}", name)
      : label < "model" ? fmt::format("{}{{{}=\"{}\",model=\"demo\"}}", name, label, value)
                        : fmt::format("{}{{model=\"demo\",{}=\"{}\"}}", name, label, value));
  EXPECT_NE(found, page.end()) << name << " " << label << " " << value;
  return found == page.end() ? -1 : found->second;
}

// Agents whose index is even say the same, at different lengths; agent 5 says much.
FakeSpeech Various(AgentId agent) {
  FakeSpeech speech = ThirdOfIndex(agent);
  const int index = IndexOf(agent);
  if (StageOf(agent) == kThinkStage) {
    speech.thinking.resize(static_cast<size_t>(index == 5 ? 40 : 5 + index), "hm ");
    speech.answer.back() = std::to_string(index % 2 * index);
  }
  return speech;
}

// Reads until the agents have said so many tokens, and goes away.
void AskAndLeaveAfter(ApiRig& rig, int tokens) {
  v1::GenerateRequest request = Ask(v1::MODE_CONTEMPLATING, 6);
  request.add_include(v1::INCLUDE_TOKENS);
  request.mutable_contemplation()->set_stop_rule(v1::STOP_RULE_NONE);
  rig.worker().HoldAfter(tokens / 6);
  grpc::ClientContext context;
  const auto reader = rig.stub().Generate(&context, request);
  int heard = 0;
  for (v1::GenerateResponse event; heard < tokens && reader->Read(&event);) {
    heard += event.agent_delta().tokens_size();
  }
  EXPECT_EQ(heard, tokens);
  context.TryCancel();
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(rig.worker().AwaitOpenFamilies(0));
  rig.worker().Release();
}

struct Sums {
  int64_t thinking = 0, answer = 0, aggregation = 0, discarded = 0, critical = 0;
  int64_t computed = 0, shared = 0, first = 0;
  int agents = 0, cut = 0, decisions = 0, answers = 0;

  void Add(const Heard& heard) {
    ASSERT_TRUE(heard.status.ok()) << heard.status.error_message();
    const v1::Receipt& receipt = heard.completed().receipt();
    thinking += receipt.thinking_tokens();
    answer += receipt.answer_tokens();
    aggregation += receipt.aggregation_tokens();
    discarded += receipt.discarded_tokens();
    critical += receipt.critical_path_tokens();
    computed += receipt.prompt().computed();
    shared += receipt.prompt().shared();
    first = receipt.prompt().first();
    agents += receipt.agents_size();
    cut += receipt.agents_cut();
    decisions += receipt.decisions_size();
    ++answers;
  }
};

double SumOf(const Page& page, const std::string& prefix) {
  double sum = 0;
  for (const auto& [series, value] : page) sum += series.rfind(prefix, 0) == 0 ? value : 0;
  return sum;
}

TEST(RequestMetricsTest, TheCountersAreTheSumsOfTheReceiptsAndOfWhatWasCancelled) {
  ApiRig rig({}, Various);
  Sums sums;
  for (int i = 0; i < 4; ++i) {
    sums.Add(Listen(rig, Ask(v1::MODE_INSTANT)));
    sums.Add(Listen(rig, Ask(v1::MODE_CONTEMPLATING, 3 + i)));
    AskAndLeaveAfter(rig, 6 * (i + 1));
    v1::GenerateRequest merged = Ask(v1::MODE_CONTEMPLATING, 2);
    merged.mutable_contemplation()->set_aggregation(v1::AGGREGATION_SYNTHESISE);
    sums.Add(Listen(rig, merged));
  }
  ASSERT_TRUE(AwaitMetric(rig, "conclave_tenant_requests_total{tenant=\"anonymous\"} 16"));

  const Page page = Read(rig.metrics());

  const std::string tokens = "conclave_tokens_total";
  EXPECT_EQ(Of(page, tokens, "fate", "thinking"), static_cast<double>(sums.thinking));
  EXPECT_EQ(Of(page, tokens, "fate", "answer"), static_cast<double>(sums.answer));
  EXPECT_EQ(Of(page, tokens, "fate", "aggregation"), static_cast<double>(sums.aggregation));
  EXPECT_EQ(Of(page, tokens, "fate", "discarded"), static_cast<double>(sums.discarded));
  EXPECT_EQ(Of(page, tokens, "fate", "cancelled"), 6 + 12 + 18 + 24);
  EXPECT_EQ(SumOf(page, tokens), SumOf(page, "conclave_tenant_tokens_total"));
  const std::string prompts = "conclave_prompt_tokens_total";
  // Of six agents of one prompt, one computed it.
  EXPECT_EQ(Of(page, prompts, "source", "computed"),
            static_cast<double>(sums.computed + 4 * sums.first));
  EXPECT_EQ(Of(page, prompts, "source", "shared"),
            static_cast<double>(sums.shared + 4 * 5 * sums.first));
  EXPECT_EQ(Of(page, "conclave_critical_path_tokens_total"), static_cast<double>(sums.critical));
  EXPECT_EQ(Of(page, "conclave_agents_planned_total"), 4 * 1 + (3 + 4 + 5 + 6) + 4 * 6 + 4 * 2);
  EXPECT_EQ(Of(page, "conclave_agents_started_total"), sums.agents + 4 * 6);
  EXPECT_EQ(SumOf(page, "conclave_agents_total"), sums.agents + 4 * 6);
  EXPECT_EQ(Of(page, "conclave_agents_total", "outcome", "abandoned"), 4 * 6);
  EXPECT_GT(sums.cut, 0);
  EXPECT_EQ(Of(page, "conclave_agents_total", "outcome", "settled"), sums.cut);
  EXPECT_EQ(SumOf(page, "conclave_decisions_total"), sums.decisions);
  EXPECT_EQ(SumOf(page, "conclave_answers_total"), sums.answers);
  EXPECT_EQ(Of(page, "conclave_answers_total", "method", "one"), 4);
  EXPECT_GE(Of(page, "conclave_answers_total", "method", "synthesise"), 4);
}

TEST(RequestMetricsTest, EverySeriesOfAModelIsThereBeforeItsFirstRequest) {
  ApiRig rig({}, Various);
  rig.rpc().Sweep();
  const Page before = Read(rig.metrics());
  EXPECT_EQ(before.at("conclave_groups_ready"), 1);
  EXPECT_EQ(SumOf(before, "conclave_requests_total"), 0);

  Listen(rig, Ask(v1::MODE_CONTEMPLATING, 5));
  Listen(rig, Ask(v1::MODE_INSTANT));
  AskAndLeaveAfter(rig, 6);
  v1::GenerateRequest unknown = Ask(v1::MODE_INSTANT);
  unknown.set_model("made-up");
  EXPECT_EQ(Listen(rig, unknown).status.error_code(), grpc::StatusCode::NOT_FOUND);
  ASSERT_TRUE(AwaitMetric(rig, "conclave_tenant_requests_total{tenant=\"anonymous\"} 3"));

  for (const auto& [series, value] : Read(rig.metrics())) {
    EXPECT_THAT(before, Contains(Key(series))) << "a rate would not see its first count";
    EXPECT_THAT(series, Not(HasSubstr("made-up"))) << "a caller's words are no label";
  }
}

TEST(RequestMetricsTest, WhoIsTurnedAwayIsCountedByWhyAndNotAsATenantsRequest) {
  RigOptions options;
  TenantOptions tenant;
  tenant.name = "acme";
  tenant.keys = {DigestOf("sesame")};
  options.admission.tenants = {tenant};
  ApiRig rig(options);

  EXPECT_FALSE(Listen(rig, Ask(v1::MODE_INSTANT)).status.ok());

  const Page page = Read(rig.metrics());
  EXPECT_EQ(
      page.at("conclave_requests_total{code=\"UNAUTHENTICATED\",mode=\"unknown\",model=\"\"}"), 1);
  EXPECT_EQ(page.at("conclave_tenant_requests_total{tenant=\"acme\"}"), 0);
}

// One request whose events the test makes up.
class RequestCountTest : public testing::Test {
 protected:
  RequestCountTest() {
    requests_.Meet("demo");
    receipt_.critical_path_tokens = 10;
  }

  static constexpr int kGrant = 100;

  static Plan PlanOf(std::vector<int> waves) {
    Plan plan;
    plan.model = "demo";
    plan.mode = Mode::kContemplating;
    plan.waves = std::move(waves);
    return plan;
  }

  void Agent(int index, int kept, int discarded, std::optional<CutReason> cut) {
    const AgentId id = MakeAgentId(kThinkStage, 0, index);
    AgentUsage usage;
    usage.agent = id;
    usage.kept = kept;
    usage.discarded = discarded;
    usage.cut = cut.has_value();
    receipt_.agents.push_back(usage);
    receipt_.thinking_tokens += kept;
    receipt_.discarded_tokens += discarded;
    count_.On({.agent = id, .what = AgentStarted{.prompt_tokens = 10, .grant = kGrant}});
    if (cut) count_.On({.agent = id, .what = AgentCut{.reason = *cut, .kept = kept}});
    if (!cut) count_.On({.agent = id, .what = AgentFinished{}});
  }
  Page Complete(std::optional<bool> accepted = std::nullopt) {
    count_.FirstToken(absl::Seconds(2));
    Completed completed;
    completed.accepted = accepted;
    completed.receipt = receipt_;
    count_.On({.agent = {}, .what = completed});
    count_.Ended(absl::OkStatus(),
                 {.tokens = receipt_.thinking_tokens + receipt_.discarded_tokens});
    return Read(metrics_);
  }

  Metrics metrics_;
  RequestMetrics requests_{metrics_, {"acme"}};
  RequestCount count_ = requests_.Count("acme", PlanOf({3, 3, 2}));
  Receipt receipt_;
};

TEST_F(RequestCountTest, WhatTheStopRuleSavedAtMostIsWhatItsAgentsLeftOfTheirGrants) {
  Agent(0, 20, 0, std::nullopt);
  Agent(1, 10, 2, CutReason::kSettled);
  Agent(2, 30, 0, CutReason::kSettled);
  Agent(3, 1, 0, CutReason::kDropped);  // Not the stop rule's doing.

  EXPECT_EQ(Of(Complete(), "conclave_stop_unused_tokens_total"), (kGrant - 12) + (kGrant - 30));
}

TEST_F(RequestCountTest, ThePlannedAreThoseThatStartedWereNarrowedOrWereNotNeeded) {
  Admitted admitted;
  admitted.agents = 16;
  count_.On({.agent = {}, .what = admitted});
  Agent(0, 10, 0, std::nullopt);
  Decision narrow{
      .number = 1, .kind = Decision::Kind::kNarrow, .clock = 10, .agents = {}, .cuts = {}};
  for (int i = 12; i < 16; ++i) narrow.agents.push_back(MakeAgentId(kThinkStage, 0, i));
  count_.On({.agent = {}, .what = narrow});

  const Page page = Complete();
  EXPECT_EQ(Of(page, "conclave_agents_planned_total"), 16);
  EXPECT_EQ(Of(page, "conclave_agents_started_total"), 1);
  EXPECT_EQ(Of(page, "conclave_agents_narrowed_total"), 4);
}

TEST_F(RequestCountTest, RoundsAndTheirWavesAreThoseOfTheReceipt) {
  for (const AgentId id : {MakeAgentId(kThinkStage, 0, 0), MakeAgentId(kThinkStage, 0, 3),
                           MakeAgentId(kThinkStage, 1, 2), MakeAgentId(kThinkStage, 2, 7)}) {
    receipt_.agents.emplace_back().agent = id;
  }

  const Page page = Complete();

  EXPECT_EQ(Of(page, "conclave_rounds_total", "kind", "first"), 1);
  EXPECT_EQ(Of(page, "conclave_rounds_total", "kind", "refine"), 2);
  EXPECT_EQ(Of(page, "conclave_rounds_total", "kind", "split"), 0);
  EXPECT_EQ(Of(page, "conclave_waves_total", "fate", "entered"), 2 + 1 + 3);
  EXPECT_EQ(Of(page, "conclave_waves_total", "fate", "spared"), 1 + 2 + 0);
}

TEST_F(RequestCountTest, AQuestionInPartsIsTwoRoundsWithoutWaves) {
  for (const AgentId id : {MakeAgentId(kSplitStage, 0, 0), MakeAgentId(kPartStage, 0, 0),
                           MakeAgentId(kPartStage, 1, 0), MakeAgentId(kAggregateStage, 0, 0)}) {
    receipt_.agents.emplace_back().agent = id;
  }
  count_.On({.agent = {}, .what = AggregationStarted{}});

  const Page page = Complete();

  EXPECT_EQ(Of(page, "conclave_rounds_total", "kind", "split"), 1);
  EXPECT_EQ(Of(page, "conclave_rounds_total", "kind", "parts"), 1);
  EXPECT_EQ(SumOf(page, "conclave_rounds_total"), 2);
  EXPECT_EQ(SumOf(page, "conclave_waves_total"), 0);
  EXPECT_EQ(Of(page, "conclave_aggregations_total", "by", "own"), 1);
}

TEST_F(RequestCountTest, PassesOfAnotherModelAreCountedApart) {
  count_.On({.agent = {}, .what = AggregationStarted{.model = "big"}});

  const Page page = Complete();

  EXPECT_EQ(Of(page, "conclave_aggregations_total", "by", "other"), 1);
  EXPECT_EQ(Of(page, "conclave_aggregations_total", "by", "own"), 0);
}

TEST_F(RequestCountTest, AgentsThatTheirProbesEndedDidNotStopByThemselves) {
  Agent(0, 10, 0, std::nullopt);
  receipt_.agents.back().probes_agreed = true;
  Agent(1, 20, 0, std::nullopt);

  const Page page = Complete();

  EXPECT_EQ(Of(page, "conclave_agents_total", "outcome", "agreed"), 1);
  EXPECT_EQ(Of(page, "conclave_agents_total", "outcome", "stop"), 1);
}

TEST_F(RequestCountTest, AgreementAndAmplificationAreOfTheVoteAndTheCriticalPath) {
  Agent(0, 10, 0, std::nullopt);
  Agent(1, 10, 0, std::nullopt);
  Agent(2, 9, 1, CutReason::kSettled);
  receipt_.votes = {{.answer = "a", .weight = 1.5, .count = 1}, {"b", 0.5, 3}};

  const Page page = Complete();

  EXPECT_EQ(Of(page, "conclave_agreement_ratio_sum"), 0.75);
  EXPECT_EQ(Of(page, "conclave_amplification_ratio_sum"), 3);
  EXPECT_EQ(page.at("conclave_time_to_first_token_seconds_sum{mode=\"contemplating\","
                    "model=\"demo\"}"),
            2);
}

TEST_F(RequestCountTest, ARightAnswerThatWasNotGivenIsASelectionLoss) {
  Agent(0, 10, 0, std::nullopt);
  receipt_.agents.back().accepted = false;
  Agent(1, 10, 0, std::nullopt);
  receipt_.agents.back().accepted = true;
  Agent(2, 10, 0, std::nullopt);

  const Page lost = Complete(false);

  EXPECT_EQ(Of(lost, "conclave_checked_requests_total", "outcome", "lost"), 1);
  EXPECT_EQ(Of(lost, "conclave_checked_answers_total", "verdict", "accepted"), 1);
  EXPECT_EQ(Of(lost, "conclave_checked_answers_total", "verdict", "rejected"), 1);

  const Page given = Complete(true);
  EXPECT_EQ(Of(given, "conclave_checked_requests_total", "outcome", "accepted"), 1);
  receipt_.agents[1].accepted = false;
  const Page none = Complete(false);
  EXPECT_EQ(Of(none, "conclave_checked_requests_total", "outcome", "none"), 1);
  EXPECT_EQ(SumOf(none, "conclave_checked_requests_total"), 3);
}

TEST_F(RequestCountTest, ARequestWithoutACheckerIsNotCountedAsChecked) {
  Agent(0, 10, 0, std::nullopt);
  EXPECT_EQ(SumOf(Complete(), "conclave_checked_"), 0);
}

TEST_F(RequestCountTest, AgentsAreCountedByHowTheyEnded) {
  Agent(0, 10, 0, std::nullopt);
  receipt_.agents.back().reason = Finish::kBar;
  Agent(1, 10, 0, CutReason::kDeadline);
  Agent(2, 10, 0, CutReason::kStopped);
  AgentUsage late;  // Taken in when it was no longer wanted: no event says so.
  late.agent = MakeAgentId(kThinkStage, 0, 3);
  late.cut = true;
  receipt_.agents.push_back(late);

  const Page page = Complete();

  for (const char* outcome : {"bar", "deadline", "stopped", "withdrawn"}) {
    EXPECT_EQ(Of(page, "conclave_agents_total", "outcome", outcome), 1) << outcome;
  }
  EXPECT_EQ(SumOf(page, "conclave_agents_total"), 4);
}

}  // namespace
}  // namespace conclave::router
