#include "worker/model/rope.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "worker/model/config_keys.h"

namespace conclave::worker {
namespace {

using Scaling = RopeConfig::Scaling;

constexpr int kMostPositions = 1 << 24;

struct ScalingName {
  const char* word;
  Scaling scaling;
};
constexpr ScalingName kScalings[] = {{"default", Scaling::kNone},
                                     {"linear", Scaling::kLinear},
                                     {"llama3", Scaling::kLlama3},
                                     {"yarn", Scaling::kYarn}};

void ReadScaling(ConfigKeys& keys, Scaling& scaling) {
  const char* key = keys.Has("rope_type") ? "rope_type" : "type";
  if (!keys.Has(key)) {
    if (keys.Has("factor")) keys.Fail("rope_type", "is missing beside a factor");
    return;
  }
  std::string word;
  keys.Word(key, word);
  for (const ScalingName& known : kScalings) {
    if (word == known.word) {
      scaling = known.scaling;
      return;
    }
  }
  const bool by_length = word == "dynamic" || word == "longrope" || word == "su";
  keys.Fail(
      key, "\"{}\" is not supported{}; it can be default, linear, llama3 or yarn", word,
      by_length ? ": it changes with the length of the text, and earlier tokens with it" : "");
}

void ReadLlama3(ConfigKeys& keys, RopeConfig& rope) {
  keys.Require("low_freq_factor");
  keys.Require("high_freq_factor");
  keys.Number("low_freq_factor", rope.low_freq_factor);
  keys.Number("high_freq_factor", rope.high_freq_factor);
  if (rope.high_freq_factor < rope.low_freq_factor) {
    keys.Fail("high_freq_factor", "is {}, below the low_freq_factor {}", rope.high_freq_factor,
              rope.low_freq_factor);
  }
}

void ReadYarn(ConfigKeys& keys, RopeConfig& rope) {
  keys.Number("beta_fast", rope.beta_fast);
  keys.Number("beta_slow", rope.beta_slow);
  keys.Bool("truncate", rope.truncate);
  const auto scale = [&rope](double m) {
    return rope.factor <= 1 ? 1.0 : 0.1 * m * std::log(rope.factor) + 1.0;
  };
  double all_dim = 1, m = 1;
  keys.Number("mscale", m);
  keys.Number("mscale_all_dim", all_dim);
  rope.attention_factor =
      keys.Has("mscale") && keys.Has("mscale_all_dim") ? scale(m) / scale(all_dim) : scale(1);
  keys.Number("attention_factor", rope.attention_factor);
}

// The share of dimension j's scaled frequency: 0 for those that turn often, 1 for those that turn
// less than once.
double YarnRamp(const RopeConfig& rope, int head_width, int j) {
  const auto dimension_of = [&](double turns) {
    const double original = static_cast<double>(rope.original_positions);
    return head_width * std::log(original / (turns * 2 * M_PI)) / (2 * std::log(rope.theta));
  };
  double low = dimension_of(rope.beta_fast), high = dimension_of(rope.beta_slow);
  if (rope.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0), high = std::min(high, head_width - 1.0);
  if (low == high) high += 0.001;
  return std::clamp((j - low) / (high - low), 0.0, 1.0);
}

double Llama3Frequency(const RopeConfig& rope, double inv) {
  const double wavelength = 2 * M_PI / inv;
  const double original = static_cast<double>(rope.original_positions);
  if (wavelength > original / rope.low_freq_factor) return inv / rope.factor;
  if (wavelength <= original / rope.high_freq_factor) return inv;
  const double s = (original / wavelength - rope.low_freq_factor) /
                   (rope.high_freq_factor - rope.low_freq_factor);
  return (1 - s) * inv / rope.factor + s * inv;
}

}  // namespace

absl::Status ReadRope(ConfigKeys& config, int max_positions, RopeConfig& rope) {
  config.Number("rope_theta", rope.theta);
  if (rope.theta <= 1) config.Fail("rope_theta", "is {}; it must be above 1", rope.theta);
  RETURN_IF_ERROR(config.status());
  const char* place = config.Has("rope_scaling") ? "rope_scaling" : "rope_parameters";
  if (!config.Has(place)) return absl::OkStatus();
  const nlohmann::json& object = config[place];
  if (!object.is_object()) return InvalidArgument("{} is no object", place);
  for (const auto& [key, value] : object.items()) {
    if (value.is_object()) {
      return InvalidArgument("{}.{} is an object: RoPE by kind of layer is not supported", place,
                             key);
    }
  }
  ConfigKeys keys(object, std::string(place) + ".");
  keys.Number("rope_theta", rope.theta);
  if (rope.theta <= 1) keys.Fail("rope_theta", "is {}; it must be above 1", rope.theta);
  ReadScaling(keys, rope.scaling);
  if (!keys.status().ok() || rope.scaling == Scaling::kNone) return keys.status();
  int original = max_positions;
  keys.Int("original_max_position_embeddings", 1, kMostPositions, original);
  rope.original_positions = original;
  if (rope.scaling == Scaling::kYarn) rope.factor = static_cast<double>(max_positions) / original;
  if (rope.scaling != Scaling::kYarn) keys.Require("factor");
  keys.Number("factor", rope.factor);
  if (rope.scaling == Scaling::kLlama3) ReadLlama3(keys, rope);
  if (rope.scaling == Scaling::kYarn) ReadYarn(keys, rope);
  return keys.status();
}

std::vector<float> RopeFrequencies(const RopeConfig& rope, int head_width) {
  std::vector<float> frequencies;
  for (int j = 0; j < head_width / 2; ++j) {
    double inv = std::pow(rope.theta, -2.0 * j / head_width);
    if (rope.scaling == Scaling::kLinear) inv /= rope.factor;
    if (rope.scaling == Scaling::kLlama3) inv = Llama3Frequency(rope, inv);
    if (rope.scaling == Scaling::kYarn) {
      const double ramp = YarnRamp(rope, head_width, j);
      inv = inv / rope.factor * ramp + inv * (1 - ramp);
    }
    frequencies.push_back(static_cast<float>(inv));
  }
  return frequencies;
}

}  // namespace conclave::worker
