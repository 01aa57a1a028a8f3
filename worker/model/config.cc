#include "worker/model/config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "common/file.h"
#include "common/json_parse.h"
#include "common/status.h"
#include "worker/model/config_keys.h"
#include "worker/model/family.h"

namespace conclave::worker {
namespace {

using nlohmann::json;

constexpr int kMostLayers = 1024;
constexpr int kMostWidth = 1 << 20;
constexpr int kMostVocab = 1 << 22;
constexpr int kMostPositions = 1 << 24;
constexpr int kWidestHead = 512;
constexpr size_t kMostBytes = 1 << 20;
constexpr int kMostDepth = 16;

// What no decoder here can serve, whatever its family.
void RefuseUnserved(ConfigKeys& keys) {
  if (keys.Has("quantization_config")) {
    keys.Fail("quantization_config", "{} is not supported: weights must be F32, F16 or BF16",
              Excerpt(keys["quantization_config"]));
  }
  if (keys.Has("hidden_act") && keys["hidden_act"] != "silu") {
    keys.Fail("hidden_act", "{} is not supported; only \"silu\" is", Excerpt(keys["hidden_act"]));
  }
  double rotary = 1;
  keys.Number("partial_rotary_factor", rotary);
  if (rotary != 1) keys.Fail("partial_rotary_factor", "is {}; only 1 is supported", rotary);
  if (!keys.Has("architectures")) return;
  const json& classes = keys["architectures"];
  const bool decodes = std::any_of(classes.begin(), classes.end(), [](const json& each) {
    return each.is_string() && each.get_ref<const std::string&>().ends_with("ForCausalLM");
  });
  if (!classes.empty() && !decodes) {
    keys.Fail("architectures", "{} has no ...ForCausalLM: only such decoders are supported",
              Excerpt(classes));
  }
}

void ReadShape(const Family& family, ConfigKeys& keys, ModelConfig& model) {
  for (const char* key : {"num_hidden_layers", "hidden_size", "num_attention_heads",
                          "intermediate_size", "vocab_size", "max_position_embeddings"}) {
    keys.Require(key);
  }
  keys.Int("num_hidden_layers", 1, kMostLayers, model.layers);
  keys.Int("hidden_size", 1, kMostWidth, model.hidden);
  keys.Int("num_attention_heads", 1, kMostWidth, model.heads);
  const bool null = keys.IsNull("num_key_value_heads");
  model.kv_heads = family.kv_heads > 0 && !null ? family.kv_heads : model.heads;
  keys.Int("num_key_value_heads", 1, kMostWidth, model.kv_heads);
  model.head_width = family.head_width > 0 ? family.head_width
                     : model.heads > 0     ? model.hidden / model.heads
                                           : 0;
  keys.Int("head_dim", 1, kWidestHead, model.head_width);
  keys.Int("intermediate_size", 1, kMostWidth, model.ffn);
  keys.Int("vocab_size", 1, kMostVocab, model.vocab);
  keys.Int("max_position_embeddings", 1, kMostPositions, model.max_positions);
}

void ReadArithmetic(const Family& family, ConfigKeys& keys, ModelConfig& model) {
  double eps = model.norm_eps;
  keys.Number("rms_norm_eps", eps, {1e-12, 1});
  model.norm_eps = static_cast<float>(eps);
  model.qkv_bias = family.bias == Family::Bias::kQkv;
  if (family.bias == Family::Bias::kByKey) {
    keys.Bool("attention_bias", model.qkv_bias);
    model.o_bias = model.qkv_bias;
  }
  if (family.mlp_bias) keys.Bool("mlp_bias", model.mlp_bias);
  model.qk_norm = family.qk_norm;
  keys.Bool("tie_word_embeddings", model.tied_embeddings);
}

absl::Status CheckHeads(const ModelConfig& model) {
  if (model.heads % model.kv_heads != 0) {
    return InvalidArgument("num_attention_heads {} is no multiple of num_key_value_heads {}",
                           model.heads, model.kv_heads);
  }
  if (model.head_width % 2 != 0 || model.head_width < 2 || model.head_width > kWidestHead) {
    return InvalidArgument("head_dim {} is not even, or not within 2 to {}", model.head_width,
                           kWidestHead);
  }
  for (const float frequency : RopeFrequencies(model.rope, model.head_width)) {
    if (!std::isfinite(frequency)) {
      return InvalidArgument("rope_theta {} and factor {} give RoPE no finite frequencies",
                             model.rope.theta, model.rope.factor);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ModelConfig> ParseModelConfig(const std::string& text) {
  ASSIGN_OR_RETURN(const json config, ParseJsonWithin({.depth = kMostDepth}, text));
  if (!config.is_object()) return InvalidArgument("no JSON object");
  ConfigKeys keys(config);
  std::string model_type;
  keys.Require("model_type");
  keys.Word("model_type", model_type);
  const Family* family = FindFamily(model_type);
  if (family == nullptr) {
    keys.Fail("model_type", "\"{}\" is not supported; it can be {}", model_type, FamilyNames());
    return keys.status();
  }
  ModelConfig model;
  model.family = model_type;
  RefuseUnserved(keys);
  ReadShape(*family, keys, model);
  ReadArithmetic(*family, keys, model);
  RETURN_IF_ERROR(keys.status());
  ReadLayers(*family, keys, model);
  RETURN_IF_ERROR(keys.status());
  RETURN_IF_ERROR(ReadRope(keys, model.max_positions, model.rope));
  RETURN_IF_ERROR(CheckHeads(model));
  return model;
}

absl::StatusOr<ModelConfig> LoadModelConfig(const std::filesystem::path& dir) {
  const auto path = dir / "config.json";
  ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kMostBytes));
  auto config = ParseModelConfig(text);
  if (!config.ok()) return Annotate(config.status(), path.string());
  return config;
}

std::string WordsOf(const ModelConfig& m) {
  const RopeConfig& rope = m.rope;
  std::string words = fmt::format(
      "layers {} hidden {} heads {} kv_heads {} head_width {} ffn {} vocab {} positions {} eps {} "
      "rope {} {} {} {} {} {} biases {} {} tied {}",
      m.layers, m.hidden, m.heads, m.kv_heads, m.head_width, m.ffn, m.vocab, m.max_positions,
      m.norm_eps, static_cast<int>(rope.scaling), rope.theta, rope.factor, rope.low_freq_factor,
      rope.high_freq_factor, rope.original_positions, m.qkv_bias, m.mlp_bias, m.tied_embeddings);
  if (rope.scaling == RopeConfig::Scaling::kYarn) {
    words += fmt::format(" yarn {} {} {} {}", rope.beta_fast, rope.beta_slow, rope.truncate,
                         rope.attention_factor);
  }
  if (m.o_bias != m.qkv_bias) words += fmt::format(" o_bias {}", m.o_bias);
  if (m.qk_norm) words += " qk_norm";
  if (m.experts.count > 0) {
    words += fmt::format(" experts of {} {} {} {}", m.experts.count, m.experts.chosen,
                         m.experts.ffn, m.experts.renormalise);
  }
  for (size_t i = 0; i < m.layer.size(); ++i) {
    if (m.layer[i].window > 0) words += fmt::format(" window {} {}", i, m.layer[i].window);
    if (m.layer[i].experts) words += fmt::format(" experts {}", i);
  }
  return words;
}

}  // namespace conclave::worker
