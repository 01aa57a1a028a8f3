#include "worker/model/rope.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "worker/model/config_keys.h"

namespace conclave::worker {
namespace {

using nlohmann::json;

RopeConfig Read(const json& config, int max_positions = 64) {
  ConfigKeys keys(config);
  RopeConfig rope;
  const absl::Status status = ReadRope(keys, max_positions, rope);
  EXPECT_TRUE(status.ok()) << status;
  return rope;
}

TEST(RopeTest, FrequenciesFollowTheirFormulas) {
  RopeConfig rope;
  const auto plain = RopeFrequencies(rope, 8);
  ASSERT_EQ(plain.size(), 4u);
  for (size_t j = 0; j < 4; ++j)
    EXPECT_FLOAT_EQ(plain[j], static_cast<float>(std::pow(10000.0, -static_cast<double>(j) / 4)));

  rope.scaling = RopeConfig::Scaling::kLinear;
  rope.factor = 4;
  for (size_t j = 0; j < 4; ++j) EXPECT_FLOAT_EQ(RopeFrequencies(rope, 8)[j], plain[j] / 4);

  // Short waves stay, long ones are stretched by the factor, those between lie between: here one
  // of 2 pi / 0.1 = 62.8 between 256 / 8 and 256 / 1.
  rope.scaling = RopeConfig::Scaling::kLlama3;
  rope.low_freq_factor = 1;
  rope.high_freq_factor = 8;
  rope.original_positions = 256;
  const auto scaled = RopeFrequencies(rope, 8);
  EXPECT_FLOAT_EQ(scaled[0], plain[0]);
  EXPECT_NEAR(scaled[1], 0.0579396, 1e-6);
  EXPECT_FLOAT_EQ(scaled[3], plain[3] / 4);
}

TEST(RopeTest, Llama3WithEqualBordersHasNoWavesBetween) {
  RopeConfig rope;
  rope.scaling = RopeConfig::Scaling::kLlama3;
  rope.factor = 4;
  rope.low_freq_factor = rope.high_freq_factor = 2;
  rope.original_positions = 256;
  const auto plain = RopeFrequencies({}, 8), scaled = RopeFrequencies(rope, 8);
  EXPECT_FLOAT_EQ(scaled[1], plain[1]);
  EXPECT_FLOAT_EQ(scaled[2], plain[2] / 4);
}

// Dimensions that turn at least beta_fast times within the original positions stay, those that turn
// less than beta_slow times are stretched, and a straight ramp lies between. By hand, E = 16, theta
// 1500, 32 positions, 6 and 1 turns: 16 ln(32 / 12 pi) / (2 ln 1500) = -0.18, rounded down and at
// least 0: 0; 16 ln(32 / 2 pi) / (2 ln 1500) = 1.78, rounded up: 2.
TEST(RopeTest, YarnRampsFromFastToSlowDimensions) {
  const RopeConfig rope = Read({{"rope_parameters",
                                 {{"rope_type", "yarn"},
                                  {"rope_theta", 1500},
                                  {"factor", 3},
                                  {"beta_fast", 6},
                                  {"original_max_position_embeddings", 32}}}});
  RopeConfig unscaled;
  unscaled.theta = 1500;
  const auto plain = RopeFrequencies(unscaled, 16), scaled = RopeFrequencies(rope, 16);
  EXPECT_FLOAT_EQ(scaled[0], plain[0]);
  EXPECT_FLOAT_EQ(scaled[1], plain[1] / 3 * 0.5f + plain[1] * 0.5f);
  for (size_t j = 2; j < 8; ++j) EXPECT_FLOAT_EQ(scaled[j], plain[j] / 3);
  EXPECT_DOUBLE_EQ(rope.attention_factor, 0.1 * std::log(3.0) + 1);
}

TEST(RopeTest, YarnWithoutTruncationKeepsTheRampsFractions) {
  RopeConfig rope;
  rope.scaling = RopeConfig::Scaling::kYarn;
  rope.theta = 1500, rope.factor = 3, rope.beta_fast = 6, rope.original_positions = 32;
  rope.truncate = false;
  RopeConfig unscaled;
  unscaled.theta = 1500;
  const float plain = RopeFrequencies(unscaled, 16)[1];
  const double ramp = 1 / (16 * std::log(32 / (2 * M_PI)) / (2 * std::log(1500)));
  EXPECT_NEAR(RopeFrequencies(rope, 16)[1], plain / 3 * ramp + plain * (1 - ramp), 1e-6);
}

TEST(RopeTest, YarnsAttentionFactorIsGivenOrFollowsFromTheScales) {
  const auto factor = [](json more) {
    more["rope_type"] = "yarn", more["factor"] = 4;
    return Read({{"rope_scaling", more}}).attention_factor;
  };
  const auto scale = [](double m) { return 0.1 * m * std::log(4.0) + 1; };
  EXPECT_DOUBLE_EQ(factor(json::object()), scale(1));
  EXPECT_DOUBLE_EQ(factor({{"mscale", 0.7}}), scale(1));
  EXPECT_DOUBLE_EQ(factor({{"mscale", 0.7}, {"mscale_all_dim", 1.5}}), scale(0.7) / scale(1.5));
  EXPECT_DOUBLE_EQ(factor({{"attention_factor", 1.25}, {"mscale", 0.7}}), 1.25);
}

TEST(RopeTest, WhatYarnLeavesOutComesFromTheModelsPositions) {
  const RopeConfig rope =
      Read({{"rope_scaling", {{"type", "yarn"}, {"original_max_position_embeddings", 32}}}}, 128);
  EXPECT_EQ(rope.factor, 4);
  EXPECT_EQ(Read({{"rope_scaling", {{"type", "yarn"}, {"factor", 2}}}}, 128).original_positions,
            128);
}

TEST(RopeTest, OldAndNewKeysMeanTheSame) {
  const RopeConfig old_keys =
      Read({{"rope_theta", 5000}, {"rope_scaling", {{"type", "linear"}, {"factor", 2}}}});
  const RopeConfig new_keys =
      Read({{"rope_parameters", {{"rope_type", "linear"}, {"factor", 2}, {"rope_theta", 5000}}}});
  EXPECT_EQ(RopeFrequencies(old_keys, 8), RopeFrequencies(new_keys, 8));
  EXPECT_EQ(Read({{"rope_parameters", {{"rope_theta", 70}}}}).theta, 70);
}

}  // namespace
}  // namespace conclave::worker
