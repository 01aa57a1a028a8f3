#include "common/wire/model_wire.h"

#include <gtest/gtest.h>

#include "common/status_details.h"

namespace conclave {
namespace {

ModelDescription Model() {
  ModelDescription model;
  model.name = "demo";
  model.fingerprint = "00ff";
  model.numerics = "cpu/plain/f32/kv-f32/v1";
  model.tensor_parallel = 2;
  model.max_positions = 512;
  model.max_agents = 64;
  model.kv_tokens = 65536;
  model.parameters = 1'070'000;
  model.decision_version = 1;
  model.family = "llama";
  model.vocabulary = 32'000;
  model.profile.end_tokens = {2, 7};
  model.profile.answer_key = {AnswerKeySpec::Kind::kAnswerLine, ""};
  model.profile.aggregate_text = "{question} {candidates}";
  model.profile.candidate_line = "{index}. {answer}";
  model.profile.max_candidates = 6;
  model.profile.split_text = "Split {question}";
  model.profile.join_text = "Join {question} {candidates}";
  model.profile.join_line = "{index}. {part} {answer}";
  model.profile.refine_text = "Again {question} {candidates}";
  model.profile.select_text = "Which {question} {candidates}";
  model.profile.end_thinking_tokens = 3;
  model.profile.thinks = true;
  model.profile.thinking_tokens = 200;
  model.profile.answer_tokens = 30;
  model.profile.sampling.temperature = 0.7f;
  return model;
}

TEST(ModelWireTest, ADescriptionComesBack) {
  const auto read = FromWire(ToWire(Model()));

  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(ToWire(*read).SerializeAsString(), ToWire(Model()).SerializeAsString());
  EXPECT_EQ(read->name, "demo");
  EXPECT_EQ(read->vocabulary, 32'000);
  EXPECT_EQ(read->profile.end_tokens, Model().profile.end_tokens);
  EXPECT_EQ(read->profile.answer_key, Model().profile.answer_key);
  EXPECT_EQ(read->profile.sampling, Model().profile.sampling);
  EXPECT_EQ(read->profile.split_text, Model().profile.split_text);
  EXPECT_EQ(read->profile.join_text, Model().profile.join_text);
  EXPECT_EQ(read->profile.join_line, Model().profile.join_line);
  EXPECT_EQ(read->profile.refine_text, Model().profile.refine_text);
  EXPECT_EQ(read->profile.select_text, Model().profile.select_text);
}

TEST(ModelWireTest, EachFieldOutOfRangeIsNamed) {
  const std::pair<const char*, void (*)(v1::ModelDescription&)> table[] = {
      {"name", [](v1::ModelDescription& m) { m.clear_name(); }},
      {"name", [](v1::ModelDescription& m) { m.set_name(std::string(300, 'x')); }},
      {"fingerprint", [](v1::ModelDescription& m) { m.clear_fingerprint(); }},
      {"tensor_parallel", [](v1::ModelDescription& m) { m.set_tensor_parallel(65); }},
      {"max_positions", [](v1::ModelDescription& m) { m.set_max_positions(0); }},
      {"max_agents", [](v1::ModelDescription& m) { m.set_max_agents(-1); }},
      {"kv_tokens", [](v1::ModelDescription& m) { m.set_kv_tokens(0); }},
      {"family", [](v1::ModelDescription& m) { m.set_family(std::string(300, 'x')); }},
      {"parameters", [](v1::ModelDescription& m) { m.set_parameters(-1); }},
      {"vocabulary", [](v1::ModelDescription& m) { m.set_vocabulary(-1); }},
      {"profile.end_tokens",
       [](v1::ModelDescription& m) { m.mutable_profile()->add_end_tokens(-1); }},
      {"profile.end_tokens",
       [](v1::ModelDescription& m) {
         for (int i = 0; i < 1024; ++i) m.mutable_profile()->add_end_tokens(i);
       }},
      {"profile.max_candidates",
       [](v1::ModelDescription& m) { m.mutable_profile()->set_max_candidates(1); }},
      {"profile.thinking_tokens",
       [](v1::ModelDescription& m) { m.mutable_profile()->set_thinking_tokens(-1); }},
      {"profile.aggregate_text",
       [](v1::ModelDescription& m) {
         m.mutable_profile()->set_aggregate_text(std::string(70'000, 'x'));
       }},
      {"profile.split_text",
       [](v1::ModelDescription& m) {
         m.mutable_profile()->set_split_text(std::string(70'000, 'x'));
       }},
      {"profile.join_line",
       [](v1::ModelDescription& m) {
         m.mutable_profile()->set_join_line(std::string(70'000, 'x'));
       }},
      {"profile.refine_text",
       [](v1::ModelDescription& m) {
         m.mutable_profile()->set_refine_text(std::string(70'000, 'x'));
       }},
      {"profile.select_text",
       [](v1::ModelDescription& m) {
         m.mutable_profile()->set_select_text(std::string(70'000, 'x'));
       }},
      {"profile.sampling.top_p",
       [](v1::ModelDescription& m) { m.mutable_profile()->mutable_sampling()->set_top_p(7); }},
  };
  for (const auto& [field, spoil] : table) {
    v1::ModelDescription wire = ToWire(Model());
    spoil(wire);

    const auto read = FromWire(wire);

    ASSERT_FALSE(read.ok()) << field;
    EXPECT_EQ(DetailsOf(read.status()).fields.at(0).first, field);
  }
}

}  // namespace
}  // namespace conclave
