#include "worker/model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
      {"NoJson", "{", "is not valid JSON at byte 2"},
      {"NotANumber", "{\"rms_norm_eps\": NaN}", "is not valid JSON at byte 18"},
      {"Infinite", "{\"rope_theta\": 1e999}", "has a number that is too great"},
      {"KeyTwice", "{\"model_type\": \"llama\", \"model_type\": \"qwen2\"}",
       "the key \"model_type\" is there twice"},
      {"List", "[]", "no JSON object"},
      {"Deep", "{\"a\":" + std::string(100'000, '[') + "}", "nested deeper than 16"},
      {"NoFamily", Without("model_type"), "model_type is missing"},
      {"OtherFamily", With("model_type", "gemma3"),
       "model_type \"gemma3\" is not supported; it can be llama, mistral, qwen2, qwen3, qwen3_moe"},
      {"FamilyIsNumber", With("model_type", 3), "model_type is 3; it must be a string"},
      {"OtherActivation", With("hidden_act", "gelu"), "hidden_act \"gelu\" is not supported"},
      {"ActivationIsNumber", With("hidden_act", 1), "hidden_act 1 is not supported"},
      {"Quantized", With("quantization_config", {{"quant_method", "awq"}, {"bits", 4}}),
       "quantization_config {\"bits\":4,\"quant_method\":\"awq\"} is not supported"},
      {"NoDecoder", With("architectures", {"LlamaForSequenceClassification"}),
       "architectures [\"LlamaForSequenceClassification\"] has no ...ForCausalLM"},
      {"PartialRotary", With("partial_rotary_factor", 0.5),
       "partial_rotary_factor is 0.5; only 1 is supported"},
      {"NoLayers", Without("num_hidden_layers"), "num_hidden_layers is missing"},
      {"ZeroLayers", With("num_hidden_layers", 0), "num_hidden_layers is 0; it can be 1 to 1024"},
      {"ManyLayers", With("num_hidden_layers", 2000), "num_hidden_layers is 2000"},
      {"HiddenIsText", With("hidden_size", "8"), "hidden_size is \"8\""},
      {"HiddenIsFraction", With("hidden_size", 8.5), "hidden_size is 8.5"},
      {"HiddenIsHuge", With("hidden_size", UINT64_MAX), "hidden_size is 18446744073709551615"},
      {"NegativeHeads", With("num_attention_heads", -2), "num_attention_heads is -2"},
      {"KvHeads", With("num_key_value_heads", 3),
       "num_attention_heads 2 is no multiple of num_key_value_heads 3"},
      {"OddHead", With("head_dim", 3), "head_dim 3 is not even"},
      {"WideHead", With("head_dim", 1024), "head_dim is 1024; it can be 1 to 512"},
      {"WideHeadBySize", With("hidden_size", 4096), "head_dim 2048 is not even, or not within 2"},
      {"NoFfn", Without("intermediate_size"), "intermediate_size is missing"},
      {"NoVocabulary", Without("vocab_size"), "vocab_size is missing"},
      {"HugeVocabulary", With("vocab_size", 1 << 23), "vocab_size is 8388608"},
      {"NoPositions", Without("max_position_embeddings"), "max_position_embeddings is missing"},
      {"Eps", With("rms_norm_eps", 0), "rms_norm_eps is 0; it must be above 0"},
      {"EpsIsNegative", With("rms_norm_eps", -1e-6), "rms_norm_eps is -1e-06; it must be above 0"},
      {"EpsIsLarge", With("rms_norm_eps", 1e300), "rms_norm_eps is 1e+300; it can be 1e-12 to 1"},
      {"EpsVanishes", With("rms_norm_eps", 1e-60), "rms_norm_eps is 1e-60; it can be"},
      {"EpsIsText", With("rms_norm_eps", "x"), "rms_norm_eps is \"x\""},
      {"TiedIsNumber", With("tie_word_embeddings", 1), "tie_word_embeddings is 1"},
      {"Window", With("sliding_window", 512),
       "sliding_window 512 is not supported: llama has no windows"},
      {"Theta", With("rope_theta", -1), "rope_theta is -1"},
  };
}

std::vector<Bad> BadRopes() {
  return {
      {"Text", With("rope_scaling", "x"), "rope_scaling is no object"},
      {"Dynamic", With("rope_scaling", {{"type", "dynamic"}, {"factor", 4}}),
       "rope_scaling.type \"dynamic\" is not supported: it changes with the length of the text"},
      {"LongRope", With("rope_parameters", {{"rope_type", "longrope"}, {"factor", 4}}),
       "rope_parameters.rope_type \"longrope\" is not supported: it changes with the length"},
      {"Unknown", With("rope_scaling", {{"rope_type", "mrope"}}),
       "rope_scaling.rope_type \"mrope\" is not supported; it can be default, linear, llama3 or "
       "yarn"},
      {"TypeIsNumber", With("rope_scaling", {{"rope_type", 5}}), "rope_scaling.rope_type is 5"},
      {"FactorOfNoType", With("rope_scaling", {{"factor", 2}}),
       "rope_scaling.rope_type is missing beside a factor"},
      {"ZeroFactor", With("rope_scaling", {{"rope_type", "linear"}, {"factor", 0}}),
       "rope_scaling.factor is 0"},
      {"NoFactor", With("rope_scaling", {{"rope_type", "linear"}}),
       "rope_scaling.factor is missing"},
      {"Llama3WithoutItsFactors", With("rope_scaling", {{"rope_type", "llama3"}, {"factor", 2}}),
       "rope_scaling.low_freq_factor is missing"},
      {"Llama3Inverted",
       With("rope_scaling", {{"rope_type", "llama3"},
                             {"factor", 2},
                             {"low_freq_factor", 4},
                             {"high_freq_factor", 1}}),
       "rope_scaling.high_freq_factor is 1, below the low_freq_factor 4"},
      {"YarnBeta", With("rope_scaling", {{"rope_type", "yarn"}, {"factor", 4}, {"beta_fast", -1}}),
       "rope_scaling.beta_fast is -1"},
      {"YarnThetaOne",
       With("rope_parameters", {{"rope_type", "yarn"}, {"factor", 4}, {"rope_theta", 1}}),
       "rope_parameters.rope_theta is 1; it must be above 1"},
      {"TinyFactor", With("rope_scaling", {{"rope_type", "linear"}, {"factor", 1e-300}}),
       "factor 1e-300 give RoPE no finite frequencies"},
      {"ByLayer", With("rope_parameters", {{"full_attention", {{"rope_type", "default"}}}}),
       "rope_parameters.full_attention is an object: RoPE by kind of layer is not supported"},
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
INSTANTIATE_TEST_SUITE_P(Rope, BadConfigTest, ::testing::ValuesIn(BadRopes()),
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
  EXPECT_FALSE(model->tied_embeddings || model->qkv_bias || model->o_bias || model->mlp_bias);
}

TEST(ModelConfigTest, AFolderWithoutTheFileIsNotFound) {
  const TemporaryFolder folder;
  EXPECT_EQ(LoadModelConfig(folder.path()).status().code(), absl::StatusCode::kNotFound);
  folder.Write("config.json", "{}");
  const absl::Status status = LoadModelConfig(folder.path()).status();
  EXPECT_THAT(std::string(MessageOf(status)), HasSubstr("config.json: model_type is missing"));
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
      {"rope_scaling", {{"rope_type", "linear"}, {"factor", 2}}},
      {"rope_parameters", {{"rope_type", "yarn"}, {"factor", 2}}},
      {"rope_parameters", {{"rope_type", "yarn"}, {"factor", 2}, {"beta_fast", 31}}},
      {"rope_parameters", {{"rope_type", "yarn"}, {"factor", 2}, {"beta_slow", 2}}},
      {"rope_parameters", {{"rope_type", "yarn"}, {"factor", 2}, {"truncate", false}}},
      {"rope_parameters", {{"rope_type", "yarn"}, {"factor", 2}, {"attention_factor", 1}}}};
  std::set<std::string> words = {WordsOf(*ParseModelConfig(TinyConfig()))};
  for (const auto& [key, value] : changes) {
    const auto model = ParseModelConfig(With(key, value));
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_TRUE(words.insert(WordsOf(*model)).second) << key << " " << value;
  }
}

// Groups of two versions share a fingerprint, so a model keeps its words when features are added.
TEST(ModelConfigTest, APlainDecodersWordsAreWhatTheyWere) {
  EXPECT_EQ(WordsOf(*ParseModelConfig(TinyConfig())),
            "layers 1 hidden 8 heads 2 kv_heads 1 head_width 4 ffn 12 vocab 10 positions 64 "
            "eps 1e-05 rope 0 10000 1 1 4 0 biases false false tied true");
}

}  // namespace
}  // namespace conclave::worker
