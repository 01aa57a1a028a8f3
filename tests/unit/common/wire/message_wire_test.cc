#include "common/wire/message_wire.h"

#include <gtest/gtest.h>

#include <limits>

#include "common/status_details.h"

namespace conclave {
namespace {

std::vector<Message> Conversation() {
  return {{Role::kSystem, {{"Be brief."}}},
          {Role::kUser, {{"1+1"}, {"=?"}}},
          {Role::kAssistant, {{"2"}}}};
}

// The field that a refusal names; "" when there was none.
std::string FieldOf(const absl::Status& status) {
  const StatusDetails details = DetailsOf(status);
  return details.fields.empty() ? "" : details.fields[0].first;
}

absl::StatusOr<Sampling> Read(const v1::Sampling& wire) {
  return FromWire(wire, Sampling{}, "sampling");
}

TEST(MessageWireTest, MessagesComeBack) {
  WireMessages wire;
  ToWire(Conversation(), &wire);

  const auto messages = FromWire(wire, "messages");

  ASSERT_TRUE(messages.ok()) << messages.status();
  EXPECT_EQ(*messages, Conversation());
}

TEST(MessageWireTest, TooFewOrTooManyMessagesAreRefused) {
  WireMessages wire;
  EXPECT_EQ(FieldOf(FromWire(wire, "messages").status()), "messages");
  EXPECT_TRUE(FromWire(wire, "messages", 0).ok());
  ToWire(std::vector<Message>(1025, Conversation()[0]), &wire);

  EXPECT_EQ(FieldOf(FromWire(wire, "messages").status()), "messages");
}

TEST(MessageWireTest, AMessageWithoutARoleIsRefused) {
  WireMessages wire;
  ToWire(Conversation(), &wire);
  wire[1].clear_role();

  EXPECT_EQ(FieldOf(FromWire(wire, "messages").status()), "messages[1].role");
  wire[1].set_role(static_cast<v1::Role>(77));
  EXPECT_EQ(FieldOf(FromWire(wire, "messages").status()), "messages[1].role");
}

TEST(MessageWireTest, AMessageWithoutPartsOrWithTooManyIsRefused) {
  WireMessages wire;
  ToWire(Conversation(), &wire);
  wire[2].clear_parts();
  EXPECT_EQ(FieldOf(FromWire(wire, "messages").status()), "messages[2].parts");

  for (int i = 0; i < 65; ++i) wire[2].add_parts()->set_text("x");
  EXPECT_EQ(FieldOf(FromWire(wire, "messages").status()), "messages[2].parts");
}

TEST(MessageWireTest, APartOfNoKindIsRefused) {
  WireMessages wire;
  ToWire(Conversation(), &wire);
  wire[0].mutable_parts(0)->clear_kind();

  EXPECT_EQ(FieldOf(FromWire(wire, "messages").status()), "messages[0].parts[0]");
}

TEST(MessageWireTest, MediaAreUnimplementedAndNamed) {
  WireMessages wire;
  ToWire(Conversation(), &wire);
  wire[1].mutable_parts(1)->mutable_image()->set_data("png");

  const absl::Status status = FromWire(wire, "messages").status();

  EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
  EXPECT_EQ(FieldOf(status), "messages[1].parts[1].image");
}

TEST(MessageWireTest, SamplingComesBack) {
  Sampling sampling;
  sampling.repetition_penalty = 1.5f;
  sampling.presence_penalty = -1;
  sampling.frequency_penalty = 2;
  sampling.logit_bias = {{3, -1.5f}, {900, 100}};
  sampling.temperature = 0.25f;
  sampling.top_k = 40;
  sampling.top_p = 0.9f;
  sampling.min_p = 0.05f;

  const auto read = Read(ToWire(sampling));

  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, sampling);
}

TEST(MessageWireTest, SamplingThatIsNotSetTakesTheDefaults) {
  Sampling defaults;
  defaults.temperature = 0.5f;
  defaults.top_k = 20;
  v1::Sampling wire;
  wire.set_top_k(0);

  const auto read = FromWire(wire, defaults, "sampling");

  EXPECT_EQ(read->temperature, 0.5f);
  EXPECT_EQ(read->top_k, 0);
}

TEST(MessageWireTest, EachSamplingFieldOutOfRangeIsNamed) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const std::pair<const char*, void (*)(v1::Sampling&)> table[] = {
      {"sampling.temperature", [](v1::Sampling& s) { s.set_temperature(-0.1f); }},
      {"sampling.temperature", [](v1::Sampling& s) { s.set_temperature(100.5f); }},
      {"sampling.temperature", [](v1::Sampling& s) { s.set_temperature(kNan); }},
      {"sampling.top_k", [](v1::Sampling& s) { s.set_top_k(-1); }},
      {"sampling.top_k", [](v1::Sampling& s) { s.set_top_k(1025); }},
      {"sampling.top_p", [](v1::Sampling& s) { s.set_top_p(0); }},
      {"sampling.top_p", [](v1::Sampling& s) { s.set_top_p(1.01f); }},
      {"sampling.min_p", [](v1::Sampling& s) { s.set_min_p(1); }},
      {"sampling.repetition_penalty", [](v1::Sampling& s) { s.set_repetition_penalty(0); }},
      {"sampling.presence_penalty", [](v1::Sampling& s) { s.set_presence_penalty(2.5f); }},
      {"sampling.frequency_penalty", [](v1::Sampling& s) { s.set_frequency_penalty(-2.5f); }},
      {"sampling.logit_bias[-1]", [](v1::Sampling& s) { (*s.mutable_logit_bias())[-1] = 0; }},
      {"sampling.logit_bias[5]", [](v1::Sampling& s) { (*s.mutable_logit_bias())[5] = 101; }},
      {"sampling.logit_bias",
       [](v1::Sampling& s) {
         for (int i = 0; i < 1025; ++i) (*s.mutable_logit_bias())[i] = 0;
       }},
  };
  for (const auto& [field, spoil] : table) {
    v1::Sampling wire;
    spoil(wire);

    EXPECT_EQ(FieldOf(Read(wire).status()), field);
  }
}

TEST(MessageWireTest, LogitBiasesComeSortedByToken) {
  v1::Sampling wire;
  for (const int token : {9, 1, 5}) (*wire.mutable_logit_bias())[token] = 1;

  EXPECT_EQ(Read(wire)->logit_bias,
            (std::vector<std::pair<TokenId, float>>{{1, 1.f}, {5, 1.f}, {9, 1.f}}));
}

TEST(MessageWireTest, EveryAnswerKeyComesBack) {
  for (int kind = 0; kind <= static_cast<int>(AnswerKeySpec::Kind::kWholeText); ++kind) {
    const AnswerKeySpec spec{static_cast<AnswerKeySpec::Kind>(kind), "argument"};

    EXPECT_EQ(*FromWire(ToWire(spec), AnswerKeySpec{}, "answer_key"), spec);
  }
}

TEST(MessageWireTest, AnAnswerKeyThatIsNotSetIsTheDefault) {
  const AnswerKeySpec defaults{AnswerKeySpec::Kind::kBoxed, ""};

  EXPECT_EQ(*FromWire(v1::AnswerKey(), defaults, "answer_key"), defaults);
}

TEST(MessageWireTest, EveryCheckerComesBack) {
  const std::vector<CheckerSpec> specs = {{CheckerSpec::Kind::kArithmetic, "7/2", {3, 0, 3}},
                                          {CheckerSpec::Kind::kArithmetic, "1", {}},
                                          {CheckerSpec::Kind::kRegex, "a+", {}},
                                          {CheckerSpec::Kind::kJsonSchema, "{}", {}}};
  for (const CheckerSpec& spec : specs) EXPECT_EQ(*FromWire(ToWire(spec), "checker"), spec);
}

TEST(MessageWireTest, WrongCheckersAreNamed) {
  v1::Checker checker;
  EXPECT_EQ(FieldOf(FromWire(checker, "c").status()), "c");
  checker.mutable_arithmetic()->add_numbers(3);
  checker.mutable_arithmetic()->add_numbers(-1);
  EXPECT_EQ(FieldOf(FromWire(checker, "c").status()), "c.arithmetic.numbers[1]");
  for (int i = 0; i < 64; ++i) checker.mutable_arithmetic()->add_numbers(1);
  EXPECT_EQ(FieldOf(FromWire(checker, "c").status()), "c.arithmetic.numbers");
}

TEST(MessageWireTest, WrongAnswerKeysAreNamed) {
  v1::AnswerKey key;
  key.set_argument("x");
  EXPECT_EQ(FieldOf(FromWire(key, {}, "answer_key").status()), "answer_key.argument");

  key.set_kind(static_cast<v1::AnswerKey::Kind>(44));
  EXPECT_EQ(FieldOf(FromWire(key, {}, "answer_key").status()), "answer_key.kind");

  key.set_kind(v1::AnswerKey::KIND_REGEX);
  key.set_argument(std::string(1025, 'x'));
  EXPECT_EQ(FieldOf(FromWire(key, {}, "answer_key").status()), "answer_key.argument");
}

}  // namespace
}  // namespace conclave
