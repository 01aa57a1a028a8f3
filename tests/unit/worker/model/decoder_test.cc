#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

#include "tests/unit/worker/model/checkpoint.h"
#include "worker/backend/cpu/cpu_device.h"
#include "worker/collective/collective.h"
#include "worker/model/model.h"

namespace conclave::worker {
namespace {

using nlohmann::json;

constexpr int kVocab = 10;

// The tiny model with so many layers and other keys.
std::string Config(int layers, const json& more = json::object()) {
  json config = json::parse(TinyConfig());
  config["num_hidden_layers"] = layers;
  config.update(more);
  return config.dump();
}

Shapes ShapesOf(int layers, bool qk_norm = false) {
  Shapes shapes;
  const std::string first = "model.layers.0.";
  for (const auto& [name, shape] : TinyShapes()) {
    for (int i = 0; i < layers; ++i) {
      const bool in_layer = name.starts_with(first);
      shapes[in_layer ? fmt::format("model.layers.{}.{}", i, name.substr(first.size())) : name] =
          shape;
      if (!qk_norm) continue;
      for (const char* norm : {"q_norm", "k_norm"}) {
        shapes[fmt::format("model.layers.{}.self_attn.{}.weight", i, norm)] = {4};
      }
    }
  }
  return shapes;
}

// Logits of the last of some tokens.
std::vector<float> LastLogits(const TemporaryFolder& folder, const std::vector<TokenId>& tokens) {
  const auto device = MakeCpuDevice("plain");
  SoloCollective solo;
  const int rows = static_cast<int>(tokens.size());
  const auto model = LoadModel(folder.path(), **device, solo, {.max_rows = rows});
  EXPECT_TRUE(model.ok()) << model.status();
  std::vector<float> logits(kVocab);
  if (!model.ok()) return logits;
  const ModelConfig& config = (*model)->config();
  KvPool pool = *(*device)->AllocateKv(config.layers, 1, config.kv_heads, config.head_width);
  const int32_t block = 0;
  Batch step;
  step.tokens = tokens;
  step.runs = {{0, rows, 0, &block, 1}};
  step.logits_rows = {rows - 1};
  EXPECT_TRUE((*model)->Forward(step, pool, Tensor::Dense(logits.data(), 1, kVocab)).ok());
  return logits;
}

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

// The first of ten tokens whose change is seen in the last one's logits.
int FirstSeen(const std::string& config, const Shapes& shapes) {
  const TemporaryFolder folder;
  folder.Write("config.json", config);
  folder.Write("model.safetensors", MakeSafetensors(shapes));
  const std::vector<TokenId> tokens = {1, 2, 3, 4, 5, 6, 7, 8, 9, 0};
  const std::vector<float> whole = LastLogits(folder, tokens);
  for (int i = 0; i < 10; ++i) {
    std::vector<TokenId> changed = tokens;
    changed[static_cast<size_t>(i)] = (tokens[static_cast<size_t>(i)] + 3) % kVocab;
    if (!SameBits(LastLogits(folder, changed), whole)) return i;
  }
  return 10;
}

TEST(DecoderTest, ARowSeesItselfAndAWindowLessOneEarlierTokens) {
  const json mistral = {{"model_type", "mistral"}};
  for (const int window : {1, 2, 3, 9}) {
    json keys = mistral;
    keys["sliding_window"] = window;
    EXPECT_EQ(FirstSeen(Config(1, keys), ShapesOf(1)), 10 - window) << window;
  }
  EXPECT_EQ(FirstSeen(Config(1), ShapesOf(1)), 0);
}

TEST(DecoderTest, EveryLayerHasItsOwnWindow) {
  const auto first_seen = [](const std::vector<std::string>& types) {
    const json keys = {{"model_type", "qwen3"},
                       {"head_dim", 4},
                       {"use_sliding_window", true},
                       {"sliding_window", 3},
                       {"layer_types", types}};
    return FirstSeen(Config(2, keys), ShapesOf(2, /*qk_norm=*/true));
  };
  const std::string full = "full_attention", sliding = "sliding_attention";
  EXPECT_EQ(first_seen({sliding, sliding}), 10 - 3 - 2);
  EXPECT_EQ(first_seen({sliding, full}), 0);
  EXPECT_EQ(first_seen({full, sliding}), 0);
}

TEST(DecoderTest, TheSameNumbersGiveTheSameBitsInEveryTypeAndInShards) {
  const std::vector<TokenId> tokens = {1, 2, 3, 4};
  std::vector<float> first;
  for (const char* dtype : {"F32", "BF16", "F16"}) {
    const TemporaryFolder folder;
    folder.Write("config.json", Config(2));
    folder.Write("model.safetensors", MakeSafetensors(ShapesOf(2), dtype));
    const std::vector<float> logits = LastLogits(folder, tokens);
    if (first.empty()) first = logits;
    EXPECT_TRUE(SameBits(logits, first)) << dtype;
  }
  const TemporaryFolder folder;
  folder.Write("config.json", Config(2));
  Shapes parts[2];
  json index;
  for (const auto& [name, shape] : ShapesOf(2)) {
    const int part = name.find("mlp") != std::string::npos;
    parts[part][name] = shape;
    index["weight_map"][name] = part ? "b.safetensors" : "a.safetensors";
  }
  folder.Write("a.safetensors", MakeSafetensors(parts[0], "F16"));
  folder.Write("b.safetensors", MakeSafetensors(parts[1], "F32"));
  folder.Write("model.safetensors.index.json", index.dump());
  EXPECT_TRUE(SameBits(LastLogits(folder, tokens), first));
}

}  // namespace
}  // namespace conclave::worker
