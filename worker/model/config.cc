#include "worker/model/config.h"

#include <cmath>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>

#include "common/status.h"

namespace conclave::worker {
namespace {

using nlohmann::json;

constexpr int kMostLayers = 1024;
constexpr int kMostWidth = 1 << 20;
constexpr int kMostVocab = 1 << 22;
constexpr int kMostPositions = 1 << 24;
constexpr size_t kMostBytes = 1 << 20;

// Reads keys of one JSON object; the first complaint stays.
class Keys {
 public:
  explicit Keys(const json& object) : object_(object) {}

  bool Has(const char* key) const { return object_.contains(key) && !object_[key].is_null(); }
  void Int(const char* key, int most, int& out, bool required = true) {
    if (!Has(key)) {
      if (required) Fail("key {} is missing", key);
      return;
    }
    const json& value = object_[key];
    if (!value.is_number_integer() || value.get<int64_t>() < 1 || value.get<int64_t>() > most) {
      Fail("{} is {}; it can be 1 to {}", key, value.dump(), most);
    } else {
      out = value.get<int>();
    }
  }
  void Number(const char* key, double& out) {
    if (!Has(key)) return;
    const json& value = object_[key];
    if (!value.is_number() || !(value.get<double>() > 0) || !std::isfinite(value.get<double>())) {
      Fail("{} is {}; it must be above 0", key, value.dump());
    } else {
      out = value.get<double>();
    }
  }
  void Bool(const char* key, bool& out) {
    if (!Has(key)) return;
    if (!object_[key].is_boolean()) {
      Fail("{} is {}; it must be true or false", key, object_[key].dump());
    } else {
      out = object_[key].get<bool>();
    }
  }
  // The word under the key must be the one that is built.
  void Only(const char* key, const std::string& word) {
    if (Has(key) && object_[key] != json(word)) {
      Fail("{} {} is not supported; only \"{}\" is", key, object_[key].dump(), word);
    }
  }
  template <typename... Args>
  void Fail(fmt::format_string<Args...> format, Args&&... args) {
    if (status_.ok()) status_ = InvalidArgument(format, std::forward<Args>(args)...);
  }
  const absl::Status& status() const { return status_; }

 private:
  const json& object_;
  absl::Status status_;
};

absl::Status ReadRope(const json& config, Keys& keys, int max_positions, RopeConfig& rope) {
  keys.Number("rope_theta", rope.theta);
  const char* place = keys.Has("rope_scaling")      ? "rope_scaling"
                      : keys.Has("rope_parameters") ? "rope_parameters"
                                                    : nullptr;
  if (place == nullptr) return keys.status();
  const json& scaling = config[place];
  if (!scaling.is_object()) return InvalidArgument("{} is no object", place);
  Keys inner(scaling);
  inner.Number("rope_theta", rope.theta);
  const char* type_key = inner.Has("rope_type") ? "rope_type" : "type";
  const std::string type = inner.Has(type_key) && scaling[type_key].is_string()
                               ? scaling[type_key].get<std::string>()
                               : "default";
  if (type == "default") return inner.status();
  rope.scaling = type == "linear" ? RopeConfig::Scaling::kLinear : RopeConfig::Scaling::kLlama3;
  if (type != "linear" && type != "llama3") {
    return InvalidArgument("{}.{} \"{}\" is not supported; it can be default, linear or llama3",
                           place, type_key, type);
  }
  inner.Number("factor", rope.factor);
  inner.Number("low_freq_factor", rope.low_freq_factor);
  inner.Number("high_freq_factor", rope.high_freq_factor);
  int original = max_positions;
  inner.Int("original_max_position_embeddings", kMostPositions, original, /*required=*/false);
  rope.original_positions = original;
  return inner.status();
}

}  // namespace

absl::StatusOr<ModelConfig> ParseModelConfig(const std::string& text) {
  const auto shallow = [](int depth, json::parse_event_t, json&) { return depth <= 16; };
  const json config = json::parse(text, shallow, /*allow_exceptions=*/false);
  if (!config.is_object()) return InvalidArgument("no JSON object");
  Keys keys(config);
  keys.Only("model_type", "llama");
  keys.Only("hidden_act", "silu");
  ModelConfig model;
  keys.Int("num_hidden_layers", kMostLayers, model.layers);
  keys.Int("hidden_size", kMostWidth, model.hidden);
  keys.Int("num_attention_heads", kMostWidth, model.heads);
  model.kv_heads = model.heads;
  keys.Int("num_key_value_heads", kMostWidth, model.kv_heads, /*required=*/false);
  model.head_width = model.heads > 0 ? model.hidden / model.heads : 0;
  keys.Int("head_dim", 512, model.head_width, /*required=*/false);
  keys.Int("intermediate_size", kMostWidth, model.ffn);
  keys.Int("vocab_size", kMostVocab, model.vocab);
  keys.Int("max_position_embeddings", kMostPositions, model.max_positions);
  double eps = model.norm_eps;
  keys.Number("rms_norm_eps", eps);
  model.norm_eps = static_cast<float>(eps);
  keys.Bool("attention_bias", model.attention_bias);
  keys.Bool("mlp_bias", model.mlp_bias);
  keys.Bool("tie_word_embeddings", model.tied_embeddings);
  if (keys.Has("sliding_window")) {
    keys.Fail("sliding_window {} is not supported", config["sliding_window"].dump());
  }
  RETURN_IF_ERROR(keys.status());
  RETURN_IF_ERROR(ReadRope(config, keys, model.max_positions, model.rope));
  if (model.heads % model.kv_heads != 0) {
    return InvalidArgument("num_attention_heads {} is no multiple of num_key_value_heads {}",
                           model.heads, model.kv_heads);
  }
  if (model.head_width % 2 != 0 || model.head_width < 2) {
    return InvalidArgument("head_dim {} is not even", model.head_width);
  }
  return model;
}

absl::StatusOr<ModelConfig> LoadModelConfig(const std::filesystem::path& dir) {
  const auto path = dir / "config.json";
  std::error_code error;
  const uint64_t size = std::filesystem::file_size(path, error);
  if (error) return NotFound("{} cannot be read", path.string());
  if (size > kMostBytes)
    return InvalidArgument("{} has {} bytes; the limit is {}", path.string(), size, kMostBytes);
  std::ifstream file(path, std::ios::binary);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  auto config = ParseModelConfig(text);
  if (!config.ok()) return Annotate(config.status(), path.string());
  return config;
}

std::string WordsOf(const ModelConfig& m) {
  const RopeConfig& rope = m.rope;
  return fmt::format(
      "layers {} hidden {} heads {} kv_heads {} head_width {} ffn {} vocab {} positions {} eps {} "
      "rope {} {} {} {} {} {} biases {} {} tied {}",
      m.layers, m.hidden, m.heads, m.kv_heads, m.head_width, m.ffn, m.vocab, m.max_positions,
      m.norm_eps, static_cast<int>(rope.scaling), rope.theta, rope.factor, rope.low_freq_factor,
      rope.high_freq_factor, rope.original_positions, m.attention_bias, m.mlp_bias,
      m.tied_embeddings);
}

std::vector<float> RopeFrequencies(const RopeConfig& rope, int head_width) {
  std::vector<float> frequencies;
  for (int j = 0; j < head_width / 2; ++j) {
    double inv = std::pow(rope.theta, -2.0 * j / head_width);
    if (rope.scaling == RopeConfig::Scaling::kLinear) inv /= rope.factor;
    if (rope.scaling == RopeConfig::Scaling::kLlama3) {
      const double wavelength = 2 * M_PI / inv;
      const double original = static_cast<double>(rope.original_positions);
      if (wavelength > original / rope.low_freq_factor) {
        inv /= rope.factor;
      } else if (wavelength >= original / rope.high_freq_factor) {
        const double s = (original / wavelength - rope.low_freq_factor) /
                         (rope.high_freq_factor - rope.low_freq_factor);
        inv = (1 - s) * inv / rope.factor + s * inv;
      }
    }
    frequencies.push_back(static_cast<float>(inv));
  }
  return frequencies;
}

}  // namespace conclave::worker
