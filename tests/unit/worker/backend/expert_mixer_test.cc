#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "tests/reference/ops.h"
#include "tests/unit/worker/backend/cpu_rig.h"

namespace conclave::worker {
namespace {

constexpr int kExperts = 7, kWidth = 33, kFfn = 17;

// The weights of a mixture, and the same as a device packed them.
struct Mixture {
  std::vector<std::vector<float>> gate, up, down;
  std::vector<std::unique_ptr<Weight>> packed;
  std::vector<ExpertWeights> experts;

  explicit Mixture(Device& device) {
    for (uint32_t e = 0; e < kExperts; ++e) {
      gate.push_back(Random(kFfn * kWidth, 3 * e));
      up.push_back(Random(kFfn * kWidth, 3 * e + 1));
      down.push_back(Random(kFfn * kWidth, 3 * e + 2));
      const MemoryRows gates(gate[e], kWidth, DType::kF32), ups(up[e], kWidth, DType::kF32);
      packed.push_back(*device.Pack({&gates, &ups}));
      packed.push_back(PackRows(device, down[e], kFfn, DType::kF32));
      experts.push_back({packed[packed.size() - 2].get(), packed.back().get()});
    }
  }
  std::vector<float> Mix(Device& device, std::vector<float> x, std::vector<float> scores,
                         ExpertChoice choice) const {
    const int64_t rows = static_cast<int64_t>(x.size()) / kWidth;
    std::vector<float> out(x.size(), 1e9f);
    device.MixExperts(Tensor::Dense(x.data(), rows, kWidth),
                      Tensor::Dense(scores.data(), rows, kExperts), experts, choice,
                      Tensor::Dense(out.data(), rows, kWidth));
    return out;
  }
  std::vector<double> Reference(const float* x, const float* scores, ExpertChoice choice) const {
    const std::vector<double> weights =
        reference::ExpertWeightsOf({scores, scores + kExperts}, choice.chosen, choice.renormalise);
    std::vector<double> out(kWidth);
    for (size_t e = 0; e < kExperts; ++e) {
      std::vector<double> h = reference::Linear(gate[e], x, kWidth);
      const std::vector<double> u = reference::Linear(up[e], x, kWidth);
      std::vector<float> middle;
      for (size_t i = 0; i < h.size(); ++i) {
        middle.push_back(static_cast<float>(reference::Silu(h[i]) * u[i]));
      }
      const std::vector<double> y = reference::Linear(down[e], middle.data(), kFfn);
      for (size_t i = 0; i < out.size(); ++i) out[i] += weights[e] * y[i];
    }
    return out;
  }
};

TEST(ExpertMixerTest, AMixtureIsTheReferencesWithEverySetAndItsBitsAreTheSame) {
  const std::vector<float> x = Random(9 * kWidth, 50), scores = Random(9 * kExperts, 51);
  for (const ExpertChoice choice : {ExpertChoice{1, false}, {2, true}, {3, false}, {7, true}}) {
    std::vector<float> first;
    for (const auto& device : AllDevices()) {
      const Mixture mixture(*device);
      const std::vector<float> out = mixture.Mix(*device, x, scores, choice);
      if (first.empty()) {
        first = out;
        for (int n = 0; n < 9; ++n) {
          const auto expected =
              mixture.Reference(x.data() + n * kWidth, scores.data() + n * kExperts, choice);
          const double scale =
              std::abs(*std::max_element(expected.begin(), expected.end(), [](double a, double b) {
                return std::abs(a) < std::abs(b);
              }));
          for (int i = 0; i < kWidth; ++i) {
            EXPECT_NEAR(out[n * kWidth + i], expected[i], 1e-5 * scale) << n << " " << i;
          }
        }
      }
      EXPECT_EQ(std::memcmp(first.data(), out.data(), out.size() * 4), 0) << device->name();
    }
  }
}

TEST(ExpertMixerTest, ARowsMixtureDoesNotDependOnTheOtherRows) {
  const auto device = *MakeCpuDevice("auto");
  const Mixture mixture(*device);
  const std::vector<float> x = Random(11 * kWidth, 60), scores = Random(11 * kExperts, 61);
  const std::vector<float> together = mixture.Mix(*device, x, scores, {2, true});
  for (int n = 0; n < 11; ++n) {
    const std::vector<float> alone = mixture.Mix(
        *device, {x.begin() + n * kWidth, x.begin() + (n + 1) * kWidth},
        {scores.begin() + n * kExperts, scores.begin() + (n + 1) * kExperts}, {2, true});
    EXPECT_EQ(std::memcmp(alone.data(), together.data() + n * kWidth, kWidth * 4), 0) << n;
  }
}

TEST(ExpertMixerTest, OfEqualScoresTheLowerExpertIsChosen) {
  const auto device = *MakeCpuDevice("auto");
  const Mixture mixture(*device);
  const std::vector<float> x = Random(kWidth, 70);
  const std::vector<float> tied = mixture.Mix(*device, x, {0, 1, 0, 1, 1, 0, 0}, {2, true});
  const std::vector<float> clear = mixture.Mix(*device, x, {0, 1, 0, 1, -9, 0, 0}, {2, true});
  EXPECT_EQ(std::memcmp(tied.data(), clear.data(), kWidth * 4), 0);
}

}  // namespace
}  // namespace conclave::worker
