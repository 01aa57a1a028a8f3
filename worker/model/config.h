#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "common/types.h"

namespace conclave::worker {

// How RoPE frequencies are made: inv_freq_j = theta^(-2j/E), then scaled.
struct RopeConfig {
  enum class Scaling { kNone, kLinear, kLlama3 };
  double theta = 10000;
  Scaling scaling = Scaling::kNone;
  double factor = 1;
  double low_freq_factor = 1, high_freq_factor = 4;  // kLlama3.
  int64_t original_positions = 0;                    // kLlama3.
};

// A Llama-architecture decoder as config.json describes it. Read without any device.
struct ModelConfig {
  int layers = 0, hidden = 0, heads = 0, kv_heads = 0, head_width = 0, ffn = 0, vocab = 0;
  int max_positions = 0;
  float norm_eps = 1e-6f;
  RopeConfig rope;
  bool attention_bias = false, mlp_bias = false, tied_embeddings = false;
};

// Reads dir/config.json. What can't be served is refused, naming file, key and value.
absl::StatusOr<ModelConfig> LoadModelConfig(const std::filesystem::path& dir);
// The same for a file's text.
absl::StatusOr<ModelConfig> ParseModelConfig(const std::string& text);

// Every value of it in words: equal words, equal arithmetic. Part of the fingerprint.
std::string WordsOf(const ModelConfig& model);

// inv_freq [head_width / 2], in f32 as the reference computes them.
std::vector<float> RopeFrequencies(const RopeConfig& rope, int head_width);

}  // namespace conclave::worker
