#pragma once

#include <absl/status/status.h>

#include <cstdint>
#include <filesystem>

#include "worker/model/config.h"

namespace conclave::bench {

// The shape of a Llama of 135 million parameters: 30 layers of 576, 9 heads over 3, ffn 1536,
// vocabulary 49,152, embeddings tied.
worker::ModelConfig Llama135M();

// The shapes of Llama 3.2 1B (embeddings tied) and Llama 3.1 8B.
worker::ModelConfig Llama1B();
worker::ModelConfig Llama8B();

// Writes config.json and model.safetensors (bf16) of that shape into the folder. The weights are
// small, random and always the same. Without a tokenizer: the engine needs none.
absl::Status WriteRandomModel(const worker::ModelConfig& shape, const std::filesystem::path& dir);

// What a step of a model has to do at least.
struct Work {
  double weight_bytes = 0;    // All matrices, as they are stored; read once a step.
  double row_flops = 0;       // Of each row: two for each weight but the head's.
  double sample_flops = 0;    // Of each row that is sampled: the head.
  double attended_flops = 0;  // Of each row, for each token that it sees.
};
Work WorkOf(const worker::ModelConfig& shape);

}  // namespace conclave::bench
