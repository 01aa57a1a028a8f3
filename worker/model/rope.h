#pragma once

#include <absl/status/status.h>

#include <cstdint>
#include <vector>

namespace conclave::worker {

class ConfigKeys;

// How RoPE frequencies are made: inv_freq_j = theta^(-2j/E), then scaled. Every kind that is served
// is a function of the position alone.
struct RopeConfig {
  enum class Scaling { kNone, kLinear, kLlama3, kYarn };
  double theta = 10000;
  Scaling scaling = Scaling::kNone;
  double factor = 1;
  double low_freq_factor = 1, high_freq_factor = 4;  // kLlama3.
  int64_t original_positions = 0;                    // kLlama3, kYarn.
  double beta_fast = 32, beta_slow = 1;              // kYarn: turns within the original positions.
  bool truncate = true;                              // kYarn: the ramp's ends are whole dimensions.
  double attention_factor = 1;                       // kYarn: multiplies cos and sin.
};

// Reads rope_theta with rope_scaling, or rope_parameters, out of config.json. Scaling that changes
// with the length of the text is refused: the bits of an earlier token would change with it.
absl::Status ReadRope(ConfigKeys& config, int max_positions, RopeConfig& rope);

// inv_freq [head_width / 2], in f32 as the reference computes them. llama3: the rule of Llama 3.1.
// yarn: Peng et al., "YaRN: efficient context window extension of large language models", 2023.
std::vector<float> RopeFrequencies(const RopeConfig& rope, int head_width);

}  // namespace conclave::worker
