#include "worker/model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "common/status.h"
#include "tests/unit/worker/model/checkpoint.h"

namespace conclave::worker {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

std::string With(const std::string& key, const json& value) {
  json config = json::parse(TinyConfig());
  config[key] = value;
  return config.dump();
}

std::string Without(const std::string& key) {
  json config = json::parse(TinyConfig());
  config.erase(key);
  return config.dump();
}

struct Bad {
  const char* name;
  std::string text;
  std::string says;
};

std::vector<Bad> BadConfigs() {
  return {
      {"NoJson", "{", "no JSON object"},
      {"List", "[]", "no JSON object"},
      {"Deep", "{\"a\":" + std::string(100'000, '[') + "}", "no JSON object"},
      {"OtherFamily", With("model_type", "gemma3"), "model_type \"gemma3\" is not supported"},
      {"OtherActivation", With("hidden_act", "gelu"), "hidden_act \"gelu\" is not supported"},
      {"NoLayers", Without("num_hidden_layers"), "key num_hidden_layers is missing"},
      {"ZeroLayers", With("num_hidden_layers", 0), "num_hidden_layers is 0; it can be 1 to 1024"},
      {"ManyLayers", With("num_hidden_layers", 2000), "num_hidden_layers is 2000"},
      {"HiddenIsText", With("hidden_size", "8"), "hidden_size is \"8\""},
      {"HiddenIsFraction", With("hidden_size", 8.5), "hidden_size is 8.5"},
      {"NegativeHeads", With("num_attention_heads", -2), "num_attention_heads is -2"},
      {"KvHeads", With("num_key_value_heads", 3),
       "num_attention_heads 2 is no multiple of num_key_value_heads 3"},
      {"OddHead", With("head_dim", 3), "head_dim 3 is not even"},
      {"WideHead", With("head_dim", 1024), "head_dim is 1024; it can be 1 to 512"},
      {"NoFfn", Without("intermediate_size"), "key intermediate_size is missing"},
      {"NoVocabulary", Without("vocab_size"), "key vocab_size is missing"},
      {"HugeVocabulary", With("vocab_size", 1 << 23), "vocab_size is 8388608"},
      {"NoPositions", Without("max_position_embeddings"), "max_position_embeddings is missing"},
      {"Eps", With("rms_norm_eps", 0), "rms_norm_eps is 0; it must be above 0"},
      {"EpsIsText", With("rms_norm_eps", "x"), "rms_norm_eps is \"x\""},
      {"TiedIsNumber", With("tie_word_embeddings", 1), "tie_word_embeddings is 1"},
      {"Window", With("sliding_window", 512), "sliding_window 512 is not supported"},
      {"Theta", With("rope_theta", -1), "rope_theta is -1"},
      {"RopeIsText", With("rope_scaling", "x"), "rope_scaling is no object"},
      {"RopeYarn", With("rope_scaling", {{"rope_type", "yarn"}, {"factor", 4}}),
       "rope_scaling.rope_type \"yarn\" is not supported; it can be default, linear or llama3"},
      {"RopeDynamic", With("rope_scaling", {{"type", "dynamic"}, {"factor", 4}}),
       "rope_scaling.type \"dynamic\" is not supported"},
      {"RopeFactor", With("rope_scaling", {{"rope_type", "linear"}, {"factor", 0}}), "factor is 0"},
  };
}

class BadConfigTest : public ::testing::TestWithParam<Bad> {};

TEST_P(BadConfigTest, IsRefusedNamingKeyAndValue) {
  const absl::Status status = ParseModelConfig(GetParam().text).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(Configs, BadConfigTest, ::testing::ValuesIn(BadConfigs()),
                         [](const auto& param) { return param.param.name; });

TEST(ModelConfigTest, WhatIsLeftOutHasTheArchitecturesDefault) {
  json config = json::parse(TinyConfig());
  for (const char* key : {"num_key_value_heads", "rms_norm_eps", "tie_word_embeddings"})
    config.erase(key);
  const auto model = ParseModelConfig(config.dump());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->kv_heads, 2);
  EXPECT_EQ(model->head_width, 4);
  EXPECT_FLOAT_EQ(model->norm_eps, 1e-6f);
  EXPECT_EQ(model->rope.theta, 10000);
  EXPECT_FALSE(model->tied_embeddings || model->attention_bias || model->mlp_bias);
}

TEST(ModelConfigTest, AFolderWithoutTheFileIsNotFound) {
  const TemporaryFolder folder;
  EXPECT_EQ(LoadModelConfig(folder.path()).status().code(), absl::StatusCode::kNotFound);
  folder.Write("config.json", "{}");
  const absl::Status status = LoadModelConfig(folder.path()).status();
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("config.json: key num_hidden_layers"));
}

TEST(ModelConfigTest, EveryKeyThatChangesArithmeticChangesItsWords) {
  const std::vector<std::pair<std::string, json>> changes = {
      {"num_hidden_layers", 2},
      {"hidden_size", 16},
      {"num_attention_heads", 4},
      {"num_key_value_heads", 2},
      {"head_dim", 8},
      {"intermediate_size", 13},
      {"vocab_size", 11},
      {"max_position_embeddings", 65},
      {"rms_norm_eps", 2e-5},
      {"rope_theta", 500000},
      {"tie_word_embeddings", false},
      {"attention_bias", true},
      {"mlp_bias", true},
      {"rope_scaling", {{"rope_type", "linear"}, {"factor", 2}}}};
  std::set<std::string> words = {WordsOf(*ParseModelConfig(TinyConfig()))};
  for (const auto& [key, value] : changes) {
    const auto model = ParseModelConfig(With(key, value));
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_TRUE(words.insert(WordsOf(*model)).second) << key;
  }
}

TEST(RopeTest, FrequenciesFollowTheirFormulas) {
  RopeConfig rope;
  const auto plain = RopeFrequencies(rope, 8);
  ASSERT_EQ(plain.size(), 4u);
  for (size_t j = 0; j < 4; ++j)
    EXPECT_FLOAT_EQ(plain[j], static_cast<float>(std::pow(10000.0, -static_cast<double>(j) / 4)));

  rope.scaling = RopeConfig::Scaling::kLinear;
  rope.factor = 4;
  for (size_t j = 0; j < 4; ++j) EXPECT_FLOAT_EQ(RopeFrequencies(rope, 8)[j], plain[j] / 4);

  // Short waves stay, long ones are stretched by the factor, those between lie between: here one
  // of 2 pi / 0.1 = 62.8 between 256 / 8 and 256 / 1.
  rope.scaling = RopeConfig::Scaling::kLlama3;
  rope.low_freq_factor = 1;
  rope.high_freq_factor = 8;
  rope.original_positions = 256;
  const auto scaled = RopeFrequencies(rope, 8);
  EXPECT_FLOAT_EQ(scaled[0], plain[0]);
  EXPECT_NEAR(scaled[1], 0.0579396, 1e-6);
  EXPECT_FLOAT_EQ(scaled[3], plain[3] / 4);
}

}  // namespace
}  // namespace conclave::worker
