#include "common/wire/family_wire.h"

#include <gtest/gtest.h>

#include <limits>

#include "common/status.h"
#include "common/status_details.h"

namespace conclave {
namespace {

AgentRecipe Recipe(int index) {
  AgentRecipe recipe;
  recipe.id = MakeAgentId(0, 0, index);
  recipe.append = "You are a judge.";
  recipe.thinking = Thinking::kOn;
  recipe.sampling.temperature = 0.5f;
  recipe.grant = 100;
  recipe.run_to = 40;
  recipe.budget = {60, 30, 12};
  recipe.stop = {"END"};
  recipe.stop_tokens = {3, 0};
  recipe.top_logprobs = 0;
  recipe.bar = {.bar = 7.25, .window = 12};
  recipe.probe_every = 16;
  recipe.probe_tokens = 20;
  recipe.produced = {{5, -0.5f, -2, TokenKind::kSampled}, {6, 0, 0, TokenKind::kForced}};
  return recipe;
}

FamilyDelta Delta() {
  FamilyDelta delta;
  delta.agent = MakeAgentId(1, 0, 3);
  delta.first = 7;
  delta.tokens = {{{5, -0.5f, -2, TokenKind::kSampled}, 10}, {{6, 0, 0, TokenKind::kForced}, 12}};
  delta.thinking = "so";
  delta.answer = "42";
  delta.end = AgentEnding{Finish::kBar, 3, 1, 2, 1};
  return delta;
}

// What comes back over the wire.
template <typename T>
T Through(const FamilyCommand& command) {
  auto read = FromWire(ToWire(command));
  EXPECT_TRUE(read.ok()) << read.status();
  return std::get<T>(*std::move(read));
}
template <typename T>
T Through(const FamilyEvent& event) {
  auto read = FromWire(ToWire(event));
  EXPECT_TRUE(read.ok()) << read.status();
  return std::get<T>(*std::move(read));
}

std::string FieldOf(const absl::Status& status) {
  const StatusDetails details = DetailsOf(status);
  return details.fields.empty() ? "" : details.fields[0].first;
}

TEST(FamilyWireTest, AnOpeningComesBack) {
  FamilyOpening opening{"r1", ~0ull, std::string("\0\xff", 2), {{Role::kUser, {{"hi"}}}},
                        17,   "00ff"};

  const auto read = Through<FamilyOpening>(FamilyCommand(opening));

  EXPECT_EQ(read.request_id, "r1");
  EXPECT_EQ(read.seed, ~0ull);
  EXPECT_EQ(read.salt, opening.salt);
  EXPECT_EQ(read.messages, opening.messages);
  EXPECT_EQ(read.time_of_day, 17);
  EXPECT_EQ(read.fingerprint, "00ff");
}

TEST(FamilyWireTest, AGangComesBack) {
  AgentRecipe own = Recipe(1);
  own.messages = {{Role::kUser, {{"merge"}}}};

  const auto gang = Through<std::vector<AgentRecipe>>(FamilyCommand(std::vector{Recipe(0), own}));

  ASSERT_EQ(gang.size(), 2u);
  EXPECT_EQ(gang[0].id, Recipe(0).id);
  EXPECT_EQ(gang[0].append, "You are a judge.");
  EXPECT_EQ(gang[0].thinking, Thinking::kOn);
  EXPECT_EQ(gang[0].sampling, Recipe(0).sampling);
  EXPECT_EQ(gang[0].grant, 100);
  EXPECT_EQ(gang[0].run_to, 40);
  EXPECT_EQ(gang[0].budget, Recipe(0).budget);
  EXPECT_EQ(gang[0].stop, Recipe(0).stop);
  EXPECT_EQ(gang[0].stop_tokens, Recipe(0).stop_tokens);
  EXPECT_EQ(gang[0].top_logprobs, 0);
  EXPECT_EQ(gang[0].bar, Recipe(0).bar);
  EXPECT_EQ(gang[0].probe_every, 16);
  EXPECT_EQ(gang[0].probe_tokens, 20);
  EXPECT_EQ(gang[0].produced, Recipe(0).produced);
  EXPECT_EQ(gang[1].messages, own.messages);
}

TEST(FamilyWireTest, WhatACopyAnsweredComesBack) {
  const ProbeResult probe{.agent = MakeAgentId(0, 0, 2),
                          .at = 64,
                          .answer = "42",
                          .sampled = 4,
                          .forced = 3,
                          .logprob_mean = -0.25f};
  EXPECT_EQ(Through<ProbeResult>(FamilyEvent(probe)), probe);
}

TEST(FamilyWireTest, WhatNoCopyCanHaveAnsweredIsRefused) {
  const std::pair<const char*, void (*)(ProbeResult&)> table[] = {
      {"probe.at", [](ProbeResult& probe) { probe.at = -1; }},
      {"probe.at", [](ProbeResult& probe) { probe.at = std::numeric_limits<int>::max(); }},
      {"probe.sampled", [](ProbeResult& probe) { probe.sampled = 257; }},
      {"probe.forced", [](ProbeResult& probe) { probe.forced = 65537; }},
      {"probe.logprob_mean",
       [](ProbeResult& probe) { probe.logprob_mean = std::numeric_limits<float>::infinity(); }}};
  for (const auto& [field, spoil] : table) {
    ProbeResult probe{.agent = MakeAgentId(0, 0, 2), .at = 64, .sampled = 4};
    spoil(probe);
    EXPECT_EQ(FieldOf(FromWire(ToWire(FamilyEvent(probe))).status()), field);
  }
}

TEST(FamilyWireTest, ProbesBeyondTheLimitsAreRefused) {
  for (const auto& [every, tokens, field] : {std::tuple{15, 20, "add.agents[0].probe_every"},
                                             std::tuple{65537, 20, "add.agents[0].probe_every"},
                                             std::tuple{16, 0, "add.agents[0].probe_tokens"},
                                             std::tuple{16, 257, "add.agents[0].probe_tokens"}}) {
    AgentRecipe recipe = Recipe(0);
    recipe.probe_every = every;
    recipe.probe_tokens = tokens;
    const auto read = FromWire(ToWire(FamilyCommand(std::vector{recipe})));
    EXPECT_EQ(FieldOf(read.status()), field) << every << " " << tokens;
  }
}

TEST(FamilyWireTest, WhatWasToldOfTokensIsNotFed) {
  AgentRecipe recipe = Recipe(0);
  recipe.produced[0].told = {{.id = 5, .logprob = -0.5f, .text = "x"}};
  EXPECT_EQ(Through<std::vector<AgentRecipe>>(FamilyCommand(std::vector{recipe}))[0].produced,
            Recipe(0).produced);
}

TEST(FamilyWireTest, WhatIsToldAndWhatStoppedComeBack) {
  FamilyDelta delta = Delta();
  delta.tokens[0].token.told = {{.id = 5, .logprob = -0.5f, .text = "\xff"},
                                {.id = 9, .logprob = -0.25f, .text = "so"},
                                {.id = 5, .logprob = -0.5f, .text = "\xff"}};
  delta.end->cause = Finish::kStop;
  for (const StopCause& cause :
       {StopCause{.kind = StopCause::Kind::kEndToken, .token = 2},
        StopCause{.kind = StopCause::Kind::kStopToken, .token = 0},
        StopCause{.kind = StopCause::Kind::kStopText, .text = "END"}, StopCause{}}) {
    delta.end->stopped_by = cause;
    const auto read = Through<FamilyDelta>(FamilyEvent(delta));
    EXPECT_EQ(read.tokens, delta.tokens);
    EXPECT_EQ(read.end->stopped_by, cause);
  }
}

TEST(FamilyWireTest, WhatStoppedAnAgentMayBeOfALaterVersion) {
  FamilyDelta delta = Delta();
  delta.end->cause = Finish::kStop;
  v1::RunResponse wire = ToWire(FamilyEvent(delta));
  wire.mutable_delta()->mutable_stopped_by()->clear_cause();  // As an unknown field looks here.

  const auto read = FromWire(wire);

  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(std::get<FamilyDelta>(*read).end->stopped_by, StopCause{});
}

TEST(FamilyWireTest, AnAgentWithoutABarLooksAsItAlwaysDid) {
  AgentRecipe recipe = Recipe(0);
  recipe.bar = {};
  const v1::RunRequest wire = ToWire(FamilyCommand(std::vector{recipe}));
  EXPECT_EQ(wire.add().agents(0).confidence_window(), 0);
  EXPECT_EQ(Through<std::vector<AgentRecipe>>(FamilyCommand(std::vector{recipe}))[0].bar,
            ConfidenceBar{});
}

TEST(FamilyWireTest, CancelsAndRaisesComeBack) {
  const AgentId a = MakeAgentId(0, 0, 1), b = MakeAgentId(255, 255, 65535);

  EXPECT_EQ(Through<CancelAgents>(FamilyCommand(CancelAgents{{a, b}})).agents, (std::vector{a, b}));
  const auto raise = Through<RaiseRunTo>(FamilyCommand(RaiseRunTo{{a, b}, {5, 0}}));
  EXPECT_EQ(raise.agents, (std::vector{a, b}));
  EXPECT_EQ(raise.counts, (std::vector{5, 0}));
}

TEST(FamilyWireTest, AnswersToAGangComeBack) {
  const AgentId a = MakeAgentId(0, 0, 1);

  const auto accepted = Through<GangAccepted>(FamilyEvent(GangAccepted{{{a, 31}}}));
  EXPECT_EQ(accepted.agents.at(0).id, a);
  EXPECT_EQ(accepted.agents.at(0).prompt_tokens, 31);

  const auto refused =
      Through<GangRefused>(FamilyEvent(GangRefused{{a}, OutOfRange("too much"), 3}));
  EXPECT_EQ(refused.agents, std::vector{a});
  EXPECT_EQ(refused.why, OutOfRange("too much"));
  EXPECT_EQ(refused.width, 3);
}

TEST(FamilyWireTest, ADeltaComesBackWithItsEnd) {
  const auto read = Through<FamilyDelta>(FamilyEvent(Delta()));

  EXPECT_EQ(read.agent, Delta().agent);
  EXPECT_EQ(read.first, 7);
  EXPECT_EQ(read.tokens, Delta().tokens);
  EXPECT_EQ(read.thinking, "so");
  EXPECT_EQ(read.answer, "42");
  ASSERT_TRUE(read.end.has_value());
  EXPECT_EQ(read.end->cause, Finish::kBar);
  EXPECT_EQ(read.end->sampled, 3);
  EXPECT_EQ(read.end->fed, 2);
}

TEST(FamilyWireTest, TotalsAndLoadComeBack) {
  const auto totals = Through<FamilyTotals>(FamilyEvent(FamilyTotals{1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(totals.prompt_computed, 1);
  EXPECT_EQ(totals.recomputed, 6);
  EXPECT_EQ(totals.probed, 7);

  const auto load = FromWire(ToWire(GroupLoad{8, 1, 2, 3, 4, true, 9}));
  ASSERT_TRUE(load.ok());
  EXPECT_EQ(load->credits, 8);
  EXPECT_TRUE(load->ready);
  EXPECT_EQ(load->epoch, 9);
}

TEST(FamilyWireTest, EachWrongFieldOfACommandIsNamed) {
  using Spoil = void (*)(v1::RunRequest&);
  const std::pair<const char*, Spoil> table[] = {
      {"command", [](v1::RunRequest& r) { r.clear_add(); }},
      {"open.messages", [](v1::RunRequest& r) { r.mutable_open(); }},
      {"open.request_id",
       [](v1::RunRequest& r) { r.mutable_open()->set_request_id(std::string(129, 'x')); }},
      {"open.salt", [](v1::RunRequest& r) { r.mutable_open()->set_salt(std::string(257, 'x')); }},
      {"add.agents", [](v1::RunRequest& r) { r.mutable_add()->clear_agents(); }},
      {"add.agents[0].thinking",
       [](v1::RunRequest& r) { r.mutable_add()->mutable_agents(0)->clear_thinking(); }},
      {"add.agents[0].grant",
       [](v1::RunRequest& r) { r.mutable_add()->mutable_agents(0)->set_grant(0); }},
      {"add.agents[0].run_to",
       [](v1::RunRequest& r) { r.mutable_add()->mutable_agents(0)->set_run_to(-1); }},
      {"add.agents[0].answer_tokens",
       [](v1::RunRequest& r) { r.mutable_add()->mutable_agents(0)->set_answer_tokens(-1); }},
      {"add.agents[0].sampling.top_k",
       [](v1::RunRequest& r) {
         r.mutable_add()->mutable_agents(0)->mutable_sampling()->set_top_k(-1);
       }},
      {"add.agents[0].stop",
       [](v1::RunRequest& r) { r.mutable_add()->mutable_agents(0)->add_stop(""); }},
      {"add.agents[0].confidence_bar",
       [](v1::RunRequest& r) { r.mutable_add()->mutable_agents(0)->set_confidence_bar(-1); }},
      {"add.agents[0].confidence_bar",
       [](v1::RunRequest& r) {
         r.mutable_add()->mutable_agents(0)->set_confidence_bar(
             std::numeric_limits<double>::quiet_NaN());
       }},
      {"add.agents[0].confidence_window",
       [](v1::RunRequest& r) { r.mutable_add()->mutable_agents(0)->set_confidence_window(0); }},
      {"add.agents[0].confidence_window",
       [](v1::RunRequest& r) { r.mutable_add()->mutable_agents(0)->set_confidence_window(65537); }},
      {"add.agents[0].produced",
       [](v1::RunRequest& r) {
         r.mutable_add()->mutable_agents(0)->mutable_produced(0)->set_id(-4);
       }},
      {"add.agents[0].produced",
       [](v1::RunRequest& r) {
         r.mutable_add()->mutable_agents(0)->mutable_produced(0)->clear_kind();
       }},
      {"add.agents[0].produced",
       [](v1::RunRequest& r) { r.mutable_add()->mutable_agents(0)->set_grant(1); }},
      {"add.agents[1].agent",
       [](v1::RunRequest& r) { *r.mutable_add()->add_agents() = r.add().agents(0); }},
      {"add.agents[0].min_tokens",
       [](v1::RunRequest& r) { r.mutable_add()->mutable_agents(0)->set_min_tokens(101); }},
      {"add.agents[0].min_tokens",
       [](v1::RunRequest& r) { r.mutable_add()->mutable_agents(0)->set_min_tokens(-1); }},
      {"add.agents[0].top_logprobs",
       [](v1::RunRequest& r) { r.mutable_add()->mutable_agents(0)->set_top_logprobs(21); }},
      {"add.agents[0].stop_tokens[1]",
       [](v1::RunRequest& r) { r.mutable_add()->mutable_agents(0)->set_stop_tokens(1, -2); }},
      {"add.agents[0].stop_tokens",
       [](v1::RunRequest& r) {
         for (int i = 0; i < 16; ++i) r.mutable_add()->mutable_agents(0)->add_stop_tokens(i);
       }},
      {"cancel.agents", [](v1::RunRequest& r) { r.mutable_cancel(); }},
      {"run_to.counts", [](v1::RunRequest& r) { r.mutable_run_to()->add_agents(1); }},
  };
  for (const auto& [field, spoil] : table) {
    v1::RunRequest wire = ToWire(FamilyCommand(std::vector{Recipe(0)}));
    spoil(wire);

    const auto read = FromWire(wire);

    ASSERT_FALSE(read.ok()) << field;
    EXPECT_EQ(read.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(FieldOf(read.status()), field);
  }
}

TEST(FamilyWireTest, EachWrongFieldOfAnEventIsNamed) {
  using Spoil = void (*)(v1::RunResponse&);
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  static const auto token = [](v1::RunResponse& r) { return r.mutable_delta()->mutable_tokens(0); };
  const std::pair<const char*, Spoil> table[] = {
      {"event", [](v1::RunResponse& r) { r.clear_delta(); }},
      {"delta.first", [](v1::RunResponse& r) { r.mutable_delta()->set_first(-1); }},
      {"delta.tokens",
       [](v1::RunResponse& r) { r.mutable_delta()->set_first(std::numeric_limits<int>::max()); }},
      {"delta.tokens", [](v1::RunResponse& r) { token(r)->set_logprob(kNan); }},
      {"delta.tokens", [](v1::RunResponse& r) { token(r)->set_text_end(13); }},
      {"delta.tokens", [](v1::RunResponse& r) { token(r)->set_text_end(-1); }},
      {"delta.tokens", [](v1::RunResponse& r) { token(r)->set_text(std::string(257, 'x')); }},
      {"delta.tokens",
       [](v1::RunResponse& r) {
         for (int i = 0; i < 21; ++i) token(r)->add_top();
       }},
      {"delta.tokens", [](v1::RunResponse& r) { token(r)->add_top()->set_id(-1); }},
      {"delta.tokens", [](v1::RunResponse& r) { token(r)->add_top()->set_logprob(kNan); }},
      {"delta.tokens",
       [](v1::RunResponse& r) { token(r)->add_top()->set_text(std::string(257, 'x')); }},
      {"delta.stopped_by",
       [](v1::RunResponse& r) {
         r.mutable_delta()->mutable_end()->set_cause(v1::AgentEnd::CAUSE_STOP);
         r.mutable_delta()->mutable_stopped_by()->set_end_token(-1);
       }},
      {"delta.stopped_by",
       [](v1::RunResponse& r) {
         r.mutable_delta()->mutable_end()->set_cause(v1::AgentEnd::CAUSE_STOP);
         r.mutable_delta()->mutable_stopped_by()->set_stop_text(std::string(257, 'x'));
       }},
      {"delta.end.cause",
       [](v1::RunResponse& r) { r.mutable_delta()->mutable_end()->clear_cause(); }},
      {"delta.end.sampled",
       [](v1::RunResponse& r) { r.mutable_delta()->mutable_end()->set_sampled(-1); }},
      {"accepted.agents", [](v1::RunResponse& r) { r.mutable_accepted(); }},
      {"refused.agents", [](v1::RunResponse& r) { r.mutable_refused(); }},
      {"refused.code",
       [](v1::RunResponse& r) {
         r.mutable_refused()->add_agents(1);
         r.mutable_refused()->set_code(0);
       }},
      {"family_end", [](v1::RunResponse& r) { r.mutable_family_end()->set_fed(-1); }},
      {"family_end",
       [](v1::RunResponse& r) {
         r.mutable_family_end()->set_recomputed(std::numeric_limits<int64_t>::max());
       }},
  };
  for (const auto& [field, spoil] : table) {
    v1::RunResponse wire = ToWire(FamilyEvent(Delta()));
    spoil(wire);

    const auto read = FromWire(wire);

    ASSERT_FALSE(read.ok()) << field;
    EXPECT_EQ(FieldOf(read.status()), field);
  }
}

TEST(FamilyWireTest, CreditsThatNoGroupHasAreRefused) {
  v1::WatchLoadResponse wire;
  for (const int credits : {-1, std::numeric_limits<int>::max()}) {
    wire.set_credits(credits);
    EXPECT_EQ(FieldOf(FromWire(wire).status()), "credits");
  }
}

}  // namespace
}  // namespace conclave
