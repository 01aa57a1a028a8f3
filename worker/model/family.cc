#include "worker/model/family.h"

#include <algorithm>

#include "worker/model/config_keys.h"

namespace conclave::worker {
namespace {

using Bias = Family::Bias;
using Window = Family::Window;

constexpr int kMostWindow = 1 << 24;
constexpr int kMostExperts = 4096;
constexpr int kMostWidth = 1 << 20;
constexpr int kUsualWindow = 4096;    // Of every class that has one.
constexpr int kUsualFirstLayer = 28;  // max_window_layers.

constexpr Family kFamilies[] = {
    {.model_type = "llama", .bias = Bias::kByKey, .mlp_bias = true},
    {.model_type = "mistral", .window = Window::kEveryLayer, .kv_heads = 8},
    {.model_type = "qwen2",
     .bias = Bias::kQkv,
     .window = Window::kWhenUsedFromLayer,
     .kv_heads = 32},
    {.model_type = "qwen3",
     .bias = Bias::kByKey,
     .qk_norm = true,
     .window = Window::kWhenUsedFromLayer,
     .kv_heads = 32,
     .head_width = 128},
    {.model_type = "qwen3_moe",
     .bias = Bias::kByKey,
     .qk_norm = true,
     .window = Window::kWhenUsed,
     .experts = true,
     .kv_heads = 4},
};

// The window of the layers that have one; 0 when none has.
int ReadWindow(const Family& family, ConfigKeys& keys) {
  if (family.window == Window::kNone) {
    if (keys.Has("sliding_window")) {
      keys.Fail("sliding_window", "{} is not supported: {} has no windows",
                Excerpt(keys["sliding_window"]), family.model_type);
    }
    return 0;
  }
  bool used = family.window == Window::kEveryLayer;
  if (!used) keys.Bool("use_sliding_window", used);
  if (!used || keys.IsNull("sliding_window")) return 0;
  int window = kUsualWindow;
  keys.Int("sliding_window", 1, kMostWindow, window);
  return window;
}

// layer_types decides where the family's class reads it, and may not contradict it elsewhere.
void ReadLayerTypes(const Family& family, int window, ConfigKeys& keys, ModelConfig& model) {
  if (!keys.Has("layer_types")) return;
  const nlohmann::json& types = keys["layer_types"];
  if (!types.is_array() || types.size() != model.layer.size()) {
    return keys.Fail("layer_types", "is no list of {} layers", model.layer.size());
  }
  for (size_t i = 0; i < types.size(); ++i) {
    const bool sliding = types[i] == "sliding_attention";
    if (!sliding && types[i] != "full_attention") {
      return keys.Fail("layer_types",
                       "has {} for layer {}; it can be \"full_attention\" or "
                       "\"sliding_attention\"",
                       Excerpt(types[i]), i);
    }
    if (sliding && window == 0) {
      return keys.Fail("layer_types", "gives layer {} a window, but no sliding_window is in use",
                       i);
    }
    const int mine = sliding ? window : 0;
    if (family.window != Window::kWhenUsedFromLayer && mine != model.layer[i].window) {
      return keys.Fail("layer_types", "has {} for layer {}: all layers of {} are alike",
                       Excerpt(types[i]), i, family.model_type);
    }
    model.layer[i].window = mine;
  }
}

// Every decoder_sparse_step-th layer is a mixture, but for those that mlp_only_layers names.
void ReadExperts(ConfigKeys& keys, ModelConfig& model) {
  for (const char* key : {"num_experts", "num_experts_per_tok", "moe_intermediate_size"}) {
    keys.Require(key);
  }
  keys.Int("num_experts", 1, kMostExperts, model.experts.count);
  keys.Int("num_experts_per_tok", 1, model.experts.count, model.experts.chosen);
  keys.Int("moe_intermediate_size", 1, kMostWidth, model.experts.ffn);
  keys.Bool("norm_topk_prob", model.experts.renormalise);
  int step = 1;
  keys.Int("decoder_sparse_step", 1, INT32_MAX, step);
  for (int i = 0; i < model.layers; ++i) {
    model.layer[static_cast<size_t>(i)].experts = (i + 1) % step == 0;
  }
  if (!keys.Has("mlp_only_layers")) return;
  const nlohmann::json& dense = keys["mlp_only_layers"];
  if (!dense.is_array()) return keys.Fail("mlp_only_layers", "is no list of layers");
  for (const nlohmann::json& layer : dense) {
    if (!layer.is_number_unsigned() || layer.get<uint64_t>() >= model.layer.size()) {
      return keys.Fail("mlp_only_layers", "has {}; layers are 0 to {}", Excerpt(layer),
                       model.layers - 1);
    }
    model.layer[layer.get<size_t>()].experts = false;
  }
}

}  // namespace

const Family* FindFamily(const std::string& model_type) {
  const auto* found =
      std::find_if(std::begin(kFamilies), std::end(kFamilies),
                   [&](const Family& family) { return model_type == family.model_type; });
  return found == std::end(kFamilies) ? nullptr : found;
}

std::string FamilyNames() {
  std::string names;
  for (const Family& family : kFamilies) {
    names += (names.empty() ? "" : ", ") + std::string(family.model_type);
  }
  return names;
}

void ReadLayers(const Family& family, ConfigKeys& keys, ModelConfig& model) {
  const int window = ReadWindow(family, keys);
  int first = 0;
  if (window > 0 && family.window == Window::kWhenUsedFromLayer) {
    first = kUsualFirstLayer;
    keys.Int("max_window_layers", 0, INT32_MAX, first);
  }
  model.layer.assign(static_cast<size_t>(model.layers), {});
  for (int i = first; i < model.layers; ++i) model.layer[static_cast<size_t>(i)].window = window;
  ReadLayerTypes(family, window, keys, model);
  if (family.experts) ReadExperts(keys, model);
}

}  // namespace conclave::worker
