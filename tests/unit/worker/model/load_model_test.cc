#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "common/status.h"
#include "tests/unit/worker/model/checkpoint.h"
#include "worker/backend/cpu/cpu_device.h"
#include "worker/collective/shared_collective.h"
#include "worker/model/model.h"

namespace conclave::worker {
namespace {

using ::testing::HasSubstr;

absl::Status Load(const TemporaryFolder& folder, int tp = 1) {
  ThreadGroup group(tp);
  const auto device = MakeCpuDevice("plain");
  const auto collective = group.Rank(0);
  return LoadModel(folder.path(), **device, *collective, {.max_rows = 4}).status();
}

std::string WhyNot(const Shapes& shapes, const std::string& config = TinyConfig(), int tp = 1) {
  const TemporaryFolder folder;
  folder.Write("config.json", config);
  folder.Write("model.safetensors", MakeSafetensors(shapes));
  return std::string(MessageOf(Load(folder, tp)));
}

TEST(LoadModelTest, ATinyCheckpointLoadsFromEveryTypeOfNumber) {
  for (const char* dtype : {"F32", "BF16", "F16"}) {
    const TemporaryFolder folder;
    folder.Write("config.json", TinyConfig());
    folder.Write("model.safetensors", MakeSafetensors(TinyShapes(), dtype));
    EXPECT_TRUE(Load(folder).ok()) << Load(folder);
  }
}

// Nothing in the format says that data begins at a multiple of a number's size.
TEST(LoadModelTest, DataMayBeginAtAnyByte) {
  for (const char* pad : {"", " ", "  ", "   "}) {
    const TemporaryFolder folder;
    folder.Write("config.json", TinyConfig());
    folder.Write("model.safetensors", MakeSafetensors(TinyShapes(), "F32", pad));
    EXPECT_TRUE(Load(folder).ok()) << Load(folder);
  }
}

TEST(LoadModelTest, AMissingASurplusAndAMisshapenTensorAreNamed) {
  Shapes shapes = TinyShapes();
  shapes.erase("model.layers.0.mlp.up_proj.weight");
  EXPECT_THAT(WhyNot(shapes), HasSubstr("tensor model.layers.0.mlp.up_proj.weight is missing"));

  shapes = TinyShapes();
  shapes["model.layers.1.mlp.up_proj.weight"] = {12, 8};
  EXPECT_THAT(WhyNot(shapes), HasSubstr("tensor model.layers.1.mlp.up_proj.weight is not known"));

  shapes = TinyShapes();
  shapes["model.norm.weight"] = {9};
  EXPECT_THAT(WhyNot(shapes),
              HasSubstr("tensor model.norm.weight has shape [9]; config.json asks for [8]"));

  shapes = TinyShapes();
  shapes["model.layers.0.self_attn.k_proj.weight"] = {8, 4};
  EXPECT_THAT(WhyNot(shapes), HasSubstr("has shape [8, 4]; config.json asks for [4, 8]"));
}

TEST(LoadModelTest, AnUntiedHeadMustBeThere) {
  std::string config = TinyConfig();
  config.replace(config.find("\"tie_word_embeddings\":true"), 26, "\"tie_word_embeddings\":false");
  EXPECT_THAT(WhyNot(TinyShapes(), config), HasSubstr("tensor lm_head.weight is missing"));
}

std::string TinyConfigOf(const std::string& family) {
  std::string config = TinyConfig();
  return config.replace(config.find("llama"), 5, family);
}

TEST(LoadModelTest, PositionsAreTheLimitsAndNeverMoreThanTheModels) {
  const TemporaryFolder folder;
  folder.Write("config.json", TinyConfig());
  folder.Write("model.safetensors", MakeSafetensors(TinyShapes()));
  const auto device = MakeCpuDevice("plain");
  SoloCollective solo;
  for (const auto& [limit, positions] : {std::pair{0, 64}, {-1, 64}, {10, 10}, {1000, 64}}) {
    const auto model = LoadModel(folder.path(), **device, solo, {4, limit});
    ASSERT_TRUE(model.ok()) << model.status();
    EXPECT_EQ((*model)->max_positions(), positions);
  }
}

TEST(LoadModelTest, AFamilysOwnTensorsMustBeThereAndNoOthers) {
  const std::string attention = "model.layers.0.self_attn.";
  Shapes shapes = TinyShapes();
  EXPECT_THAT(WhyNot(shapes, TinyConfigOf("qwen2")),
              HasSubstr("tensor " + attention + "q_proj.bias is missing"));
  shapes[attention + "q_proj.bias"] = {8};
  shapes[attention + "k_proj.bias"] = {4};
  shapes[attention + "v_proj.bias"] = {4};
  EXPECT_EQ(WhyNot(shapes, TinyConfigOf("qwen2")), "");
  EXPECT_THAT(WhyNot(shapes, TinyConfigOf("mistral")), HasSubstr("k_proj.bias is not known"));
  shapes[attention + "o_proj.bias"] = {8};
  EXPECT_THAT(WhyNot(shapes, TinyConfigOf("qwen2")), HasSubstr("o_proj.bias is not known"));

  shapes = TinyShapes();
  std::string config = TinyConfigOf("qwen3");
  config.replace(config.rfind('}'), 1, ",\"head_dim\":4}");
  shapes[attention + "q_norm.weight"] = {4};
  EXPECT_THAT(WhyNot(shapes, config), HasSubstr("k_norm.weight is missing"));
  shapes[attention + "k_norm.weight"] = {8};
  EXPECT_THAT(WhyNot(shapes, config), HasSubstr("has shape [8]; config.json asks for [4]"));
  shapes[attention + "k_norm.weight"] = {4};
  EXPECT_EQ(WhyNot(shapes, config), "");
}

TEST(LoadModelTest, AMixturesExpertsMustAllBeThere) {
  std::string config = TinyConfigOf("qwen3_moe");
  config.replace(config.rfind('}'), 1,
                 ",\"num_experts\":2,\"num_experts_per_tok\":1,\"moe_intermediate_size\":4}");
  const std::string layer = "model.layers.0.";
  Shapes shapes = TinyShapes();
  for (const char* mlp : {"gate", "up", "down"}) {
    shapes.erase(layer + "mlp." + mlp + "_proj.weight");
    for (const char* expert : {"0.", "1."}) {
      const bool down = std::string(mlp) == "down";
      shapes[layer + "mlp.experts." + expert + mlp + "_proj.weight"] =
          down ? std::vector<int64_t>{8, 4} : std::vector<int64_t>{4, 8};
    }
  }
  shapes[layer + "self_attn.q_norm.weight"] = shapes[layer + "self_attn.k_norm.weight"] = {4};
  EXPECT_THAT(WhyNot(shapes, config), HasSubstr("mlp.gate.weight is missing"));
  shapes[layer + "mlp.gate.weight"] = {2, 8};
  EXPECT_EQ(WhyNot(shapes, config), "");
  shapes[layer + "mlp.experts.2.up_proj.weight"] = {4, 8};
  EXPECT_THAT(WhyNot(shapes, config), HasSubstr("experts.2.up_proj.weight is not known"));
  shapes.erase(layer + "mlp.experts.2.up_proj.weight");
  shapes.erase(layer + "mlp.experts.1.up_proj.weight");
  EXPECT_THAT(WhyNot(shapes, config), HasSubstr("experts.1.up_proj.weight is missing"));
}

TEST(LoadModelTest, RanksThatDoNotDivideTheModelAreRefused) {
  EXPECT_THAT(WhyNot(TinyShapes(), TinyConfig(), 3),
              HasSubstr("num_attention_heads 2 does not divide among 3 ranks"));
}

}  // namespace
}  // namespace conclave::worker
