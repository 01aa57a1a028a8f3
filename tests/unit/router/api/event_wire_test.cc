#include "router/api/event_wire.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>
#include <gtest/gtest.h>

namespace conclave::router {
namespace {

// Paths of fields that are not set, the members of a oneof that is set elsewhere left out.
void FindUnset(const google::protobuf::Message& message, const std::string& path,
               std::vector<std::string>& unset) {
  const auto* descriptor = message.GetDescriptor();
  const auto* reflection = message.GetReflection();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const auto* field = descriptor->field(i);
    const auto* oneof = field->real_containing_oneof();
    if (oneof != nullptr && reflection->HasOneof(message, oneof) &&
        !reflection->HasField(message, field))
      continue;
    const std::string name = path + "." + field->name();
    const bool there = field->is_repeated() ? reflection->FieldSize(message, field) > 0
                                            : reflection->HasField(message, field);
    if (!there) {
      unset.push_back(name);
    } else if (field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) {
      FindUnset(field->is_repeated() ? reflection->GetRepeatedMessage(message, field, 0)
                                     : reflection->GetMessage(message, field),
                name, unset);
    }
  }
}

std::vector<std::string> Unset(decltype(ClientEvent::what) what) {
  const v1::GenerateResponse wire =
      ToWire(ClientEvent{.sequence = 9, .agent = AgentId{5}, .what = std::move(what)});
  EXPECT_EQ(wire.sequence(), 9);
  EXPECT_EQ(wire.agent(), 5u);
  std::vector<std::string> unset;
  FindUnset(wire, wire.GetDescriptor()->name(), unset);
  return unset;
}

const std::vector<std::string> kNothing;

Decision FullDecision() {
  return {.number = 1,
          .kind = Decision::Kind::kDrop,
          .clock = 7,
          .agents = {AgentId{2}},
          .cuts = {{.agent = AgentId{2}, .kept = 3}}};
}

StopCause StoppedBy() { return {.kind = StopCause::Kind::kStopText, .token = 0, .text = "END"}; }

Receipt FullReceipt() {
  Receipt receipt;
  receipt.request_id = "r";
  receipt.model = "m";
  receipt.fingerprint = "f";
  receipt.decision_version = 1;
  receipt.seed = 2;
  receipt.time_of_day = 3;
  receipt.result_hash = "h";
  receipt.prompt = {.total = 10, .computed = 4, .shared = 6, .first = 5, .recomputed = 1};
  receipt.agents.push_back({.agent = AgentId{1},
                            .prompt_tokens = 5,
                            .kept = 4,
                            .thinking = 3,
                            .discarded = 2,
                            .cut = false,
                            .reason = Finish::kStop,
                            .answer = "a",
                            .weight = 0.5,
                            .lowest_window_confidence = 9,
                            .stopped_by = StoppedBy(),
                            .thinking_forced = true,
                            .accepted = true,
                            .probes_agreed = true,
                            .model = "big"});
  receipt.thinking_tokens = 11;
  receipt.answer_tokens = 12;
  receipt.aggregation_tokens = 13;
  receipt.discarded_tokens = 14;
  receipt.agents_cut = 1;
  receipt.critical_path_tokens = 15;
  receipt.time_to_first_answer = absl::Seconds(1) + absl::Nanoseconds(2);
  receipt.wall_time = absl::Seconds(3) + absl::Nanoseconds(4);
  receipt.decisions.push_back(FullDecision());
  receipt.votes.push_back({.answer = "a", .weight = 0.5, .count = 1});
  receipt.resumes = 2;
  receipt.counts_from_stream = true;
  receipt.probe_tokens = 16;
  receipt.aggregator_model = "big";
  receipt.aggregator_fingerprint = "x";
  receipt.agent_models = {"m", "big"};
  receipt.agent_fingerprints = {"f", "x"};
  return receipt;
}

// A field that is forgotten in the mapping is found here, also one that is added later.
TEST(EventWireTest, EveryFieldOfEveryEventArrives) {
  EXPECT_EQ(Unset(Admitted{.request_id = "r",
                           .model = "m",
                           .seed = 1,
                           .mode = Mode::kThinking,
                           .agents = 2,
                           .fingerprint = "f",
                           .time_of_day = 3,
                           .decision_version = 4,
                           .aggregator_fingerprint = "x",
                           .agent_fingerprints = {"f", "x"}}),
            kNothing);
  EXPECT_EQ(Unset(AgentStarted{.prompt_tokens = 3, .grant = 4, .model = "big"}), kNothing);
  EXPECT_EQ(Unset(AgentDelta{.thinking = "t",
                             .answer = "a",
                             .tokens = {{.id = 1,
                                         .logprob = -1,
                                         .top_logprob_mean = -2,
                                         .kind = {},
                                         .told = {{.id = 1, .logprob = -1, .text = "x"},
                                                  {.id = 3, .logprob = -0.5f, .text = "y"}}}},
                             .count = 3}),
            kNothing);
  EXPECT_EQ(Unset(AgentFinished{.reason = Finish::kStop,
                                .answer = "a",
                                .confidence = 0.5,
                                .tokens = 4,
                                .top20_confidence = 12,
                                .lowest_window_confidence = 9,
                                .weight = 0.25,
                                .stopped_by = StoppedBy(),
                                .thinking_forced = true,
                                .probes_agreed = true}),
            kNothing);
  EXPECT_EQ(Unset(AgentCut{.reason = CutReason::kSettled, .kept = 3}), kNothing);
  EXPECT_EQ(Unset(VoteUpdate{.votes = {{.answer = "a", .weight = 1, .count = 1}},
                             .counted = 1,
                             .to_come = 2,
                             .stop_value = -1}),
            kNothing);
  EXPECT_EQ(Unset(FullDecision()), kNothing);
  EXPECT_EQ(Unset(AggregationStarted{
                .method = Aggregation::kSynthesise, .candidates = 2, .model = "big"}),
            kNothing);
  EXPECT_EQ(Unset(AnswerDelta{.text = "x"}), kNothing);
  EXPECT_EQ(Unset(CheckerVerdict{.accepted = true, .reason = "r"}), kNothing);
  EXPECT_EQ(Unset(ProbeAnswer{.at = 64, .answer = "a", .tokens = 9}), kNothing);
  EXPECT_EQ(Unset(GroupChanged{.reason = "r", .resumed = true}), kNothing);
}

TEST(EventWireTest, EveryLineOfTheReceiptArrives) {
  // An agent was cut or has a reason, never both.
  const std::vector<std::string> not_cut = {"GenerateResponse.completed.receipt.agents.cut",
                                            "GenerateResponse.completed.receipt.agents.cut_reason"};
  const Completed completed{
      .answer = "a",
      .incomplete = true,
      .method = Aggregation::kVote,
      .receipt = FullReceipt(),
      .settings = {.sampling = {.logit_bias = {{4, 1.5f}}},
                   .budget = {.thinking_tokens = 1, .answer_tokens = 2, .min_tokens = 3},
                   .end_tokens = {4},
                   .stop_tokens = {5},
                   .stop = {"END"}}};
  EXPECT_EQ(Unset(completed), not_cut);

  const v1::Receipt receipt =
      ToWire(ClientEvent{.sequence = 1, .agent = {}, .what = completed}).completed().receipt();
  EXPECT_EQ(receipt.prompt().total(), receipt.prompt().computed() + receipt.prompt().shared());
  EXPECT_EQ(receipt.wall_time().seconds(), 3);
  EXPECT_EQ(receipt.wall_time().nanos(), 4);
  EXPECT_EQ(receipt.thinking_tokens(), 11);
  EXPECT_EQ(receipt.critical_path_tokens(), 15);
}

// A text of three-byte characters, none of which ends where a limit is.
std::string Long(size_t bytes) {
  std::string text = "x";
  while (text.size() < bytes) text += "\u20ac";
  return text;
}

TEST(EventWireTest, NoEventOutgrowsAMessage) {
  constexpr size_t kMostMessage = 4 << 20;
  const std::string answer = Long(5 << 20), vote = Long(100'000);
  Completed completed;
  completed.answer = answer;
  VoteUpdate update;
  for (int i = 0; i < 64; ++i) {
    completed.receipt.agents.emplace_back().answer = vote + std::to_string(i);
    completed.receipt.votes.push_back(
        {.answer = vote + std::to_string(i), .weight = 1, .count = 1});
  }
  completed.receipt.agents.emplace_back().answer = answer;  // Of the aggregation pass.
  update.votes = completed.receipt.votes;
  AgentFinished finished;
  finished.answer = answer;

  const v1::GenerateResponse end = ToWire({.sequence = 1, .agent = {}, .what = completed});
  EXPECT_LT(end.ByteSizeLong(), kMostMessage);
  EXPECT_EQ(end.completed().answer(), answer.substr(0, end.completed().answer().size()));
  EXPECT_GT(end.completed().answer().size(), kMostAnswerTold - 3);
  EXPECT_EQ(end.completed().answer().size() % 3, 1u) << "it ends with a character";
  EXPECT_EQ(end.completed().receipt().votes_size(), 64);
  EXPECT_GT(end.completed().receipt().votes(63).answer().size(), kMostVoteTold - 3);
  EXPECT_LT(ToWire({.sequence = 1, .agent = {}, .what = update}).ByteSizeLong(), kMostMessage);
  EXPECT_LT(ToWire({.sequence = 1, .agent = {}, .what = finished}).ByteSizeLong(), kMostMessage);
}

TEST(EventWireTest, AnAgentThatWasCutHasNoReason) {
  Completed completed;
  completed.receipt.agents.push_back({.agent = AgentId{0},
                                      .prompt_tokens = 1,
                                      .kept = 1,
                                      .thinking = 0,
                                      .discarded = 0,
                                      .cut = true,
                                      .reason = Finish::kLength,
                                      .answer = std::nullopt,
                                      .stopped_by = StoppedBy(),
                                      .cut_reason = CutReason::kDropped});
  const v1::GenerateResponse wire = ToWire({.sequence = 1, .agent = {}, .what = completed});
  const v1::AgentUsage& usage = wire.completed().receipt().agents(0);
  EXPECT_TRUE(usage.cut());
  EXPECT_EQ(usage.reason(), v1::FINISH_REASON_UNSPECIFIED);
  EXPECT_EQ(usage.cut_reason(), v1::CUT_REASON_DROPPED);
  EXPECT_FALSE(usage.has_answer() || usage.has_stopped_by());
  EXPECT_EQ(wire.completed().method(), v1::AGGREGATION_UNSPECIFIED);
}

TEST(EventWireTest, EachWayToAnAnswerIsItself) {
  const auto method = [](Aggregation way) {
    Completed completed;
    completed.method = way;
    return ToWire({.sequence = 1, .agent = {}, .what = completed}).completed().method();
  };
  EXPECT_EQ(method(Aggregation::kVote), v1::AGGREGATION_VOTE);
  EXPECT_EQ(method(Aggregation::kWeightedVote), v1::AGGREGATION_WEIGHTED_VOTE);
  EXPECT_EQ(method(Aggregation::kSynthesise), v1::AGGREGATION_SYNTHESISE);
  EXPECT_EQ(method(Aggregation::kSelect), v1::AGGREGATION_SELECT);
  EXPECT_EQ(method(Aggregation::kCheck), v1::AGGREGATION_CHECK);
}

TEST(EventWireTest, ATokenCarriesWhatIsToldOfIt) {
  AgentDelta delta;
  delta.tokens.push_back({.id = 7,
                          .logprob = -1,
                          .told = {{.id = 7, .logprob = -1, .text = "\xE2\x82"},
                                   {.id = 9, .logprob = -0.25f, .text = "so"}}});
  delta.tokens.push_back({.id = 8, .logprob = -2});
  const v1::GenerateResponse wire = ToWire({.sequence = 1, .agent = {}, .what = delta});

  const v1::Token& told = wire.agent_delta().tokens(0);
  EXPECT_EQ(told.text(), "\xE2\x82");  // Bytes: half a character.
  ASSERT_EQ(told.top_size(), 1);
  EXPECT_EQ(told.top(0).id(), 9);
  EXPECT_EQ(told.top(0).logprob(), -0.25f);
  EXPECT_EQ(told.top(0).text(), "so");
  EXPECT_EQ(wire.agent_delta().tokens(1).top_size(), 0);
}

TEST(EventWireTest, EachCauseOfAStopIsItself) {
  const auto wire = [](StopCause cause) {
    AgentFinished event;
    event.stopped_by = std::move(cause);
    return ToWire({.sequence = 1, .agent = {}, .what = event}).agent_finished();
  };
  EXPECT_EQ(wire({.kind = StopCause::Kind::kEndToken, .token = 2}).stopped_by().end_token(), 2);
  EXPECT_EQ(wire({.kind = StopCause::Kind::kStopToken, .token = 3}).stopped_by().stop_token(), 3);
  EXPECT_EQ(wire(StoppedBy()).stopped_by().stop_text(), "END");
  EXPECT_FALSE(wire({}).has_stopped_by());
}

TEST(EventWireTest, EnumsKeepTheirMeaning) {
  const auto finish = [](Finish reason) {
    AgentFinished event;
    event.reason = reason;
    return ToWire({.sequence = 1, .agent = {}, .what = event}).agent_finished().reason();
  };
  EXPECT_EQ(finish(Finish::kStop), v1::FINISH_REASON_STOP);
  EXPECT_EQ(finish(Finish::kLength), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(finish(Finish::kBar), v1::FINISH_REASON_BAR);

  const auto cut = [](CutReason reason) {
    return ToWire({.sequence = 1, .agent = {}, .what = AgentCut{.reason = reason, .kept = 0}})
        .agent_cut()
        .reason();
  };
  EXPECT_EQ(cut(CutReason::kSettled), v1::CUT_REASON_SETTLED);
  EXPECT_EQ(cut(CutReason::kDeadline), v1::CUT_REASON_DEADLINE);
  EXPECT_EQ(cut(CutReason::kDropped), v1::CUT_REASON_DROPPED);
  EXPECT_EQ(cut(CutReason::kStopped), v1::CUT_REASON_STOPPED);

  const auto kind = [](Decision::Kind value) {
    Decision decision;
    decision.kind = value;
    return ToWire({.sequence = 1, .agent = {}, .what = decision}).decision().kind();
  };
  EXPECT_EQ(kind(Decision::Kind::kJoin), v1::Decision::KIND_JOIN);
  EXPECT_EQ(kind(Decision::Kind::kNarrow), v1::Decision::KIND_NARROW);
  EXPECT_EQ(kind(Decision::Kind::kDrop), v1::Decision::KIND_DROP);
  EXPECT_EQ(kind(Decision::Kind::kDeadline), v1::Decision::KIND_DEADLINE);
  EXPECT_EQ(kind(Decision::Kind::kStopNow), v1::Decision::KIND_STOP_NOW);

  EXPECT_EQ(ToWire(Mode::kInstant), v1::MODE_INSTANT);
  EXPECT_EQ(ToWire(Mode::kThinking), v1::MODE_THINKING);
  EXPECT_EQ(ToWire(Mode::kContemplating), v1::MODE_CONTEMPLATING);
}

}  // namespace
}  // namespace conclave::router
