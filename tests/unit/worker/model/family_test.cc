#include "worker/model/family.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "common/status.h"
#include "tests/unit/worker/model/checkpoint.h"

namespace conclave::worker {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// The tiny model as one of a family, with four layers and what else is given.
absl::StatusOr<ModelConfig> Parse(const char* family, const json& more = json::object()) {
  json config = json::parse(TinyConfig());
  config["model_type"] = family;
  config["num_hidden_layers"] = 4;
  config.update(more);
  return ParseModelConfig(config.dump());
}

std::vector<int> Windows(const char* family, const json& more) {
  const auto model = Parse(family, more);
  EXPECT_TRUE(model.ok()) << model.status();
  std::vector<int> windows;
  for (const LayerConfig& layer : model->layer) windows.push_back(layer.window);
  return windows;
}

std::string WhyNot(const char* family, const json& more) {
  const absl::Status status = Parse(family, more).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  return std::string(MessageOf(status));
}

TEST(FamilyTest, BiasesAreWhereTheFamilyHasThem) {
  const json all = {{"attention_bias", true}, {"mlp_bias", true}};
  const auto biases = [&](const char* family, const json& more) {
    const auto model = Parse(family, more);
    EXPECT_TRUE(model.ok()) << model.status();
    return std::vector<bool>{model->qkv_bias, model->o_bias, model->mlp_bias};
  };
  EXPECT_THAT(biases("llama", all), ElementsAre(true, true, true));
  EXPECT_THAT(biases("llama", json::object()), ElementsAre(false, false, false));
  EXPECT_THAT(biases("qwen2", json::object()), ElementsAre(true, false, false));
  EXPECT_THAT(biases("qwen3", all), ElementsAre(true, true, false));
  EXPECT_THAT(biases("mistral", all), ElementsAre(false, false, false));
}

TEST(FamilyTest, OnlyQwen3NormsItsHeads) {
  for (const char* family : {"llama", "mistral", "qwen2"}) EXPECT_FALSE(Parse(family)->qk_norm);
  EXPECT_TRUE(Parse("qwen3")->qk_norm);
}

TEST(FamilyTest, WhatIsLeftOutHasTheClassesDefault) {
  json config = json::parse(TinyConfig());
  config.erase("num_key_value_heads");
  config["num_attention_heads"] = 32;
  config["hidden_size"] = 64;
  const auto with = [&](const char* family) {
    config["model_type"] = family;
    return *ParseModelConfig(config.dump());
  };
  EXPECT_EQ(with("llama").kv_heads, 32);
  EXPECT_EQ(with("mistral").kv_heads, 8);
  EXPECT_EQ(with("qwen2").kv_heads, 32);
  EXPECT_EQ(with("qwen2").head_width, 2);
  EXPECT_EQ(with("qwen3").head_width, 128);
  config["num_key_value_heads"] = nullptr;
  EXPECT_EQ(with("mistral").kv_heads, 32);
}

TEST(FamilyTest, MistralsWindowIsOnAllLayersUnlessItIsNull) {
  EXPECT_THAT(Windows("mistral", {{"sliding_window", 9}}), ElementsAre(9, 9, 9, 9));
  EXPECT_THAT(Windows("mistral", {{"sliding_window", nullptr}}), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(Windows("mistral", json::object()), ElementsAre(4096, 4096, 4096, 4096));
}

TEST(FamilyTest, QwensWindowBeginsAtItsLayerWhenItIsUsed) {
  for (const char* family : {"qwen2", "qwen3"}) {
    json keys = {{"sliding_window", 9}, {"max_window_layers", 3}};
    EXPECT_THAT(Windows(family, keys), ElementsAre(0, 0, 0, 0));
    keys["use_sliding_window"] = true;
    EXPECT_THAT(Windows(family, keys), ElementsAre(0, 0, 0, 9));
    keys["max_window_layers"] = 70;
    EXPECT_THAT(Windows(family, keys), ElementsAre(0, 0, 0, 0));
    keys["max_window_layers"] = 0;
    EXPECT_THAT(Windows(family, keys), ElementsAre(9, 9, 9, 9));
    keys["sliding_window"] = nullptr;
    EXPECT_THAT(Windows(family, keys), ElementsAre(0, 0, 0, 0));
  }
}

TEST(FamilyTest, LayerTypesNameQwensLayersOneByOne) {
  const json types = {"sliding_attention", "full_attention", "sliding_attention", "full_attention"};
  EXPECT_THAT(Windows("qwen3", {{"layer_types", types},
                                {"use_sliding_window", true},
                                {"max_window_layers", 1},
                                {"sliding_window", 9}}),
              ElementsAre(9, 0, 9, 0));
  EXPECT_THAT(WhyNot("qwen2", {{"layer_types", types}}),
              HasSubstr("layer_types gives layer 0 a window, but no sliding_window is in use"));
  EXPECT_THAT(WhyNot("mistral", {{"layer_types", types}, {"sliding_window", 9}}),
              HasSubstr("layer_types has \"full_attention\" for layer 1: all layers of mistral"));
}

TEST(FamilyTest, LayerTypesThatAreNoKindOfLayerAreRefused) {
  EXPECT_THAT(WhyNot("qwen3", {{"layer_types", "full_attention"}}),
              HasSubstr("layer_types is no list of 4 layers"));
  EXPECT_THAT(WhyNot("qwen3", {{"layer_types", {"full_attention"}}}),
              HasSubstr("layer_types is no list of 4 layers"));
  EXPECT_THAT(WhyNot("qwen3", {{"layer_types", {"full_attention", "linear_attention", "x", "x"}}}),
              HasSubstr("layer_types has \"linear_attention\" for layer 1; it can be"));
}

TEST(FamilyTest, WindowsThatCannotBeAreRefused) {
  EXPECT_THAT(WhyNot("mistral", {{"sliding_window", 0}}), HasSubstr("sliding_window is 0"));
  EXPECT_THAT(WhyNot("mistral", {{"sliding_window", "9"}}), HasSubstr("sliding_window is \"9\""));
  EXPECT_THAT(WhyNot("qwen2", {{"use_sliding_window", 1}}),
              HasSubstr("use_sliding_window is 1; it must be true or false"));
  EXPECT_THAT(WhyNot("qwen2", {{"use_sliding_window", true}, {"max_window_layers", -1}}),
              HasSubstr("max_window_layers is -1"));
}

json Experts(const json& more = json::object()) {
  json keys = {{"num_experts", 5}, {"num_experts_per_tok", 2}, {"moe_intermediate_size", 4}};
  keys.update(more);
  return keys;
}

std::vector<bool> Mixtures(const json& more) {
  const auto model = Parse("qwen3_moe", Experts(more));
  EXPECT_TRUE(model.ok()) << model.status();
  std::vector<bool> mixtures;
  for (const LayerConfig& layer : model->layer) mixtures.push_back(layer.experts);
  return mixtures;
}

TEST(FamilyTest, EveryStepsLayerIsAMixtureButForThoseThatAreNamed) {
  EXPECT_THAT(Mixtures(json::object()), ElementsAre(true, true, true, true));
  EXPECT_THAT(Mixtures({{"decoder_sparse_step", 2}}), ElementsAre(false, true, false, true));
  EXPECT_THAT(Mixtures({{"decoder_sparse_step", 5}}), ElementsAre(false, false, false, false));
  EXPECT_THAT(Mixtures({{"decoder_sparse_step", INT32_MAX}}),
              ElementsAre(false, false, false, false));
  EXPECT_THAT(Mixtures({{"mlp_only_layers", {0, 3}}}), ElementsAre(false, true, true, false));
}

TEST(FamilyTest, AMixturesSizesAreRead) {
  const auto model = Parse("qwen3_moe", Experts({{"norm_topk_prob", true}}));
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_EQ(model->experts.count, 5);
  EXPECT_EQ(model->experts.chosen, 2);
  EXPECT_EQ(model->experts.ffn, 4);
  EXPECT_TRUE(model->experts.renormalise);
  EXPECT_TRUE(model->qk_norm);
  EXPECT_FALSE(Parse("qwen3_moe", Experts())->experts.renormalise);
}

TEST(FamilyTest, MixturesThatCannotBeAreRefused) {
  EXPECT_THAT(WhyNot("qwen3_moe", json::object()), HasSubstr("num_experts is missing"));
  EXPECT_THAT(WhyNot("qwen3_moe", Experts({{"num_experts", 0}})),
              HasSubstr("num_experts is 0; it can be 1 to 4096"));
  EXPECT_THAT(WhyNot("qwen3_moe", Experts({{"num_experts_per_tok", 6}})),
              HasSubstr("num_experts_per_tok is 6; it can be 1 to 5"));
  EXPECT_THAT(WhyNot("qwen3_moe", Experts({{"mlp_only_layers", {0, 4}}})),
              HasSubstr("mlp_only_layers has 4; layers are 0 to 3"));
  EXPECT_THAT(WhyNot("qwen3_moe", Experts({{"mlp_only_layers", 1}})),
              HasSubstr("mlp_only_layers is no list of layers"));
  EXPECT_THAT(WhyNot("qwen3_moe", Experts({{"decoder_sparse_step", 0}})),
              HasSubstr("decoder_sparse_step is 0"));
}

TEST(FamilyTest, TheMixturesWindowIsOnAllLayersWhenItIsUsed) {
  json keys = Experts({{"sliding_window", 9}, {"max_window_layers", 3}});
  EXPECT_THAT(Windows("qwen3_moe", keys), ElementsAre(0, 0, 0, 0));
  keys["use_sliding_window"] = true;
  EXPECT_THAT(Windows("qwen3_moe", keys), ElementsAre(9, 9, 9, 9));
}

TEST(FamilyTest, EveryPartOfAFamilyChangesItsWords) {
  const std::string plain = WordsOf(*Parse("llama"));
  EXPECT_NE(WordsOf(*Parse("qwen2")), WordsOf(*Parse("llama", {{"attention_bias", true}})));
  EXPECT_NE(WordsOf(*Parse("qwen3", {{"head_dim", 4}})), plain);
  EXPECT_EQ(WordsOf(*Parse("mistral", {{"sliding_window", nullptr}})), plain);
  EXPECT_NE(WordsOf(*Parse("mistral", {{"sliding_window", 9}})), plain);
  json keys = {{"sliding_window", 9}, {"use_sliding_window", true}, {"max_window_layers", 2}};
  const std::string from_two = WordsOf(*Parse("qwen2", keys));
  keys["max_window_layers"] = 3;
  EXPECT_NE(WordsOf(*Parse("qwen2", keys)), from_two);
  std::set<std::string> words = {WordsOf(*Parse("qwen3_moe", Experts()))};
  for (const json& change : std::vector<json>{{{"num_experts", 6}},
                                              {{"num_experts_per_tok", 3}},
                                              {{"moe_intermediate_size", 8}},
                                              {{"norm_topk_prob", true}},
                                              {{"mlp_only_layers", {2}}}}) {
    EXPECT_TRUE(words.insert(WordsOf(*Parse("qwen3_moe", Experts(change)))).second) << change;
  }
}

}  // namespace
}  // namespace conclave::worker
