#pragma once

#include <absl/status/statusor.h>

#include <filesystem>
#include <string>
#include <vector>

#include "worker/model/rope.h"

namespace conclave::worker {

// What may differ from layer to layer.
struct LayerConfig {
  int window = 0;  // 0: a row sees itself and all earlier tokens; else window - 1 earlier ones.
  bool experts = false;  // A mixture of experts instead of the one MLP.
};

// A mixture of experts.
struct ExpertsConfig {
  int count = 0, chosen = 0;  // Of a layer; for each token.
  int ffn = 0;                // Feed-forward width of one expert.
  bool renormalise = false;   // The chosen ones' weights add up to 1.
};

// A decoder as config.json describes it, whatever its family. Read without any device.
struct ModelConfig {
  std::string family;  // model_type, a name only: the values below say what it means.
  int layers = 0, hidden = 0, heads = 0, kv_heads = 0, head_width = 0, ffn = 0, vocab = 0;
  int max_positions = 0;
  float norm_eps = 1e-6f;
  RopeConfig rope;
  ExpertsConfig experts;
  bool qkv_bias = false, o_bias = false, mlp_bias = false, qk_norm = false, tied_embeddings = false;
  std::vector<LayerConfig> layer;  // One for each layer.
};

// Reads dir/config.json. What can't be served is refused, naming file, key, value and reason.
absl::StatusOr<ModelConfig> LoadModelConfig(const std::filesystem::path& dir);
// The same for a file's text.
absl::StatusOr<ModelConfig> ParseModelConfig(const std::string& text);

// Every value of it in words: equal words, equal arithmetic. Part of the fingerprint, so what a
// decoder has not is left out: a model's words stay what they were when a new feature comes.
std::string WordsOf(const ModelConfig& model);

}  // namespace conclave::worker
