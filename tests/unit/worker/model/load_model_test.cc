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
  return LoadModel(folder.path(), **device, *collective, 4).status();
}

std::string WhyNot(const Shapes& shapes, const std::string& config = TinyConfig(), int tp = 1) {
  const TemporaryFolder folder;
  folder.Write("config.json", config);
  folder.Write("model.safetensors", MakeSafetensors(shapes));
  return std::string(MessageOf(Load(folder, tp)));
}

TEST(LoadModelTest, ATinyCheckpointLoadsFromEveryTypeOfNumber) {
  for (const char* dtype : {"F32", "BF16"}) {
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

TEST(LoadModelTest, RanksThatDoNotDivideTheModelAreRefused) {
  EXPECT_THAT(WhyNot(TinyShapes(), TinyConfig(), 3),
              HasSubstr("num_attention_heads 2 does not divide among 3 ranks"));
}

}  // namespace
}  // namespace conclave::worker
