#include "worker/backend/cuda/draw.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <numeric>

#include "tests/unit/worker/backend/cuda/rig.h"
#include "worker/backend/random.h"

namespace conclave::worker::cuda {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct TestDraw {
  std::vector<float> logits;
  std::vector<Adjustment> adjust = {};
  float temperature = 1;
  int keep = 0;
  uint64_t seed = 0x123456789abcdefu;
  uint32_t agent = 3, index = 5;
};

struct Found {
  std::vector<float> head;
  Candidate best;
  std::vector<Candidate> kept;

  std::vector<float> Numbers() const {
    std::vector<float> all(head.begin(), head.begin() + 2 + kConfidenceTokens);
    for (size_t i = all.size(); i < head.size(); ++i) {
      all.push_back(static_cast<float>(std::bit_cast<TokenId>(head[i])));
    }
    for (const Candidate& c : kept) {
      all.insert(all.end(), {c.value, c.raw, static_cast<float>(c.id)});
    }
    all.insert(all.end(), {best.value, best.raw, static_cast<float>(best.id)});
    return all;
  }
};

float Clean(float x) { return std::isnan(x) ? -kInfinity : x; }

// What is drawn from, in the arithmetic of the kernels.
std::vector<float> ValuesOf(const TestDraw& draw, TokenId first) {
  std::vector<float> values;
  for (const float x : draw.logits) values.push_back(Clean(x));
  for (const Adjustment& a : draw.adjust) {
    float& v = values[static_cast<size_t>(a.id - first)];
    v = (v > 0 ? v / a.repetition - a.subtract : std::fma(v, a.repetition, -a.subtract)) + a.add;
  }
  for (float& v : values) v = Clean(draw.temperature == 0 ? v : v * (1 / draw.temperature));
  return values;
}

class DrawTest : public Rig {
 protected:
  // All draws have logits of one width. `odd`: rows start where they please.
  std::vector<Found> Run(const std::vector<TestDraw>& draws, TokenId first, bool odd = false);
  void Check(const TestDraw& draw, TokenId first, const Found& found);
  void RunAndCheck(const TestDraw& draw, TokenId first = 0) {
    Check(draw, first, Run({draw}, first)[0]);
  }
};

std::vector<Found> DrawTest::Run(const std::vector<TestDraw>& draws, TokenId first, bool odd) {
  DrawArgs args;
  args.num_draws = static_cast<int>(draws.size());
  args.width = static_cast<int64_t>(draws[0].logits.size());
  args.first = first;
  const int64_t stride = odd ? args.width | 1 : (args.width + 3) / 4 * 4;
  std::vector<float> logits(static_cast<size_t>(args.num_draws * stride), NAN);
  std::vector<Adjustment> adjustments;
  std::vector<DeviceDraw> on_device;
  for (size_t d = 0; d < draws.size(); ++d) {
    std::copy(draws[d].logits.begin(), draws[d].logits.end(),
              logits.begin() + static_cast<int64_t>(d) * stride);
    args.most_kept = std::max(args.most_kept, draws[d].keep);
  }
  const float* device_logits = Upload(logits);
  for (size_t d = 0; d < draws.size(); ++d) {
    const TestDraw& draw = draws[d];
    on_device.push_back({.logits = device_logits + static_cast<int64_t>(d) * stride,
                         .temperature = draw.temperature,
                         .seed = draw.seed,
                         .agent = draw.agent,
                         .index = draw.index,
                         .first_adjustment = static_cast<int32_t>(adjustments.size()),
                         .num_adjustments = static_cast<int32_t>(draw.adjust.size()),
                         .keep = draw.keep});
    adjustments.insert(adjustments.end(), draw.adjust.begin(), draw.adjust.end());
  }
  args.draws = Upload(on_device), args.adjustments = Upload(adjustments);
  args.scratch = Poisoned<char>(
      static_cast<size_t>(DrawScratchBytes(args.num_draws, args.width, args.most_kept)));
  const size_t head = kDrawHead, kept = static_cast<size_t>(args.most_kept);
  args.heads = Poisoned<float>(draws.size() * head);
  args.best = Poisoned<Candidate>(draws.size());
  args.kept = Poisoned<Candidate>(draws.size() * kept);

  Draw(args, stream());

  const auto heads = Download(args.heads, draws.size() * head);
  const auto bests = Download(args.best, draws.size());
  const auto all_kept = Download(args.kept, draws.size() * kept);
  std::vector<Found> found;
  for (size_t d = 0; d < draws.size(); ++d) {
    const auto h = heads.begin() + static_cast<int64_t>(d * head);
    const auto k = all_kept.begin() + static_cast<int64_t>(d * kept);
    found.push_back({{h, h + head}, bests[d], {k, k + draws[d].keep}});
  }
  return found;
}

void DrawTest::Check(const TestDraw& draw, TokenId first, const Found& found) {
  std::vector<float> raw;
  for (const float x : draw.logits) raw.push_back(Clean(x));
  const float most = raw.empty() ? -kInfinity : *std::max_element(raw.begin(), raw.end());
  double sum = 0;
  for (const float x : raw) sum += x == most ? 1 : std::exp(static_cast<double>(x) - most);
  EXPECT_EQ(found.head[0], most);
  EXPECT_NEAR(found.head[1], sum, 1e-5 * sum);

  std::vector<int> falling(raw.size());
  std::iota(falling.begin(), falling.end(), 0);
  std::stable_sort(falling.begin(), falling.end(), [&](int a, int b) { return raw[a] > raw[b]; });
  for (size_t i = 0; i < kConfidenceTokens; ++i) {
    const bool there = i < falling.size();
    EXPECT_EQ(found.head[2 + i], there ? raw[falling[i]] : -kInfinity);
    EXPECT_EQ(std::bit_cast<TokenId>(found.head[2 + kConfidenceTokens + i]),
              there ? first + falling[i] : -1);
  }

  const auto values = ValuesOf(draw, first);
  std::vector<int> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  const auto precedes = [&](int a, int b) {
    return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)] ||
           (values[static_cast<size_t>(a)] == values[static_cast<size_t>(b)] && a < b);
  };
  const size_t count = std::min(order.size(), static_cast<size_t>(draw.keep));
  std::partial_sort(order.begin(), order.begin() + static_cast<int64_t>(count), order.end(),
                    precedes);
  for (size_t i = 0; i < found.kept.size(); ++i) {
    const Candidate& kept = found.kept[i];
    if (i >= count) {
      ASSERT_EQ(kept.id, -1) << i;
      continue;
    }
    const size_t at = static_cast<size_t>(order[i]);
    ASSERT_EQ(kept.id, first + order[i]) << i;
    ASSERT_EQ(kept.value, values[at]) << i;
    ASSERT_EQ(kept.raw, raw[at]) << i;
  }

  if (draw.keep > 0 || raw.empty()) {
    EXPECT_EQ(found.best.id, -1);
    return;
  }
  const auto noisy = [&](size_t i) {
    const auto id = static_cast<uint32_t>(first) + static_cast<uint32_t>(i);
    return draw.temperature == 0 ? values[i]
                                 : values[i] + GumbelNoise(draw.seed, draw.agent, draw.index, id);
  };
  float greatest = -kInfinity;
  for (size_t i = 0; i < values.size(); ++i) greatest = std::max(greatest, noisy(i));
  const size_t best = static_cast<size_t>(found.best.id - first);
  ASSERT_LT(best, values.size());
  EXPECT_EQ(found.best.raw, raw[best]);
  // Where two are nearer than the logarithms' last bits, either may be drawn.
  const float near = std::isinf(greatest) ? 0 : 1e-5f * std::max(1.0f, std::abs(greatest));
  EXPECT_GE(noisy(best), greatest - near);
  if (!std::isinf(greatest)) {
    EXPECT_NEAR(found.best.value, noisy(best), near);
  }
}

std::vector<Adjustment> SomeAdjustments(TokenId first, int width, int every) {
  std::vector<Adjustment> adjust;
  for (int i = every / 2; i < width; i += every) {
    adjust.push_back({first + i, 1.0f + 0.1f * static_cast<float>(i % 7),
                      0.3f * static_cast<float>(i % 3), i % 5 == 0 ? 1.7f : 0.0f});
  }
  return adjust;
}

TEST_F(DrawTest, GivesTheReferenceForShardsOfEveryWidth) {
  for (const int width : {0, 1, 2, 19, 20, 33, 127, 1024, 1025, 5000}) {
    for (const TokenId first : {0, 1000}) {
      for (const float temperature : {0.0f, 0.7f, 1.0f}) {
        TestDraw draw{Random(static_cast<size_t>(width), static_cast<uint32_t>(width + 1))};
        draw.temperature = temperature;
        RunAndCheck(draw, first);
        draw.keep = 7;
        RunAndCheck(draw, first);
      }
    }
  }
}

TEST_F(DrawTest, KeepsTheGreatestOfAWholeVocabulary) {
  for (const int keep : {1, 50, 64, 65, 1024}) {
    TestDraw draw{Random(128256, 11)};
    draw.keep = keep, draw.temperature = 0.6f;
    draw.adjust = SomeAdjustments(0, 128256, 301);
    RunAndCheck(draw);
  }
}

TEST_F(DrawTest, DrawsFromAdjustedLogits) {
  const TokenId first = 500;
  for (const int every : {1, 2, 97, 3000}) {
    for (const int keep : {0, 100}) {
      TestDraw draw{Random(5000, 7)};
      draw.adjust = SomeAdjustments(first, 5000, every);
      draw.keep = keep;
      RunAndCheck(draw, first);
      draw.temperature = 0;
      RunAndCheck(draw, first);
    }
  }
}

TEST_F(DrawTest, KeepsMoreThanThereAre) {
  TestDraw draw{Random(300, 1)};
  draw.keep = 1024;
  RunAndCheck(draw, 40);
}

TEST_F(DrawTest, TiesGoToTheLowerToken) {
  TestDraw draw{std::vector<float>(40'000, 2.5f)};
  draw.keep = 1024;
  RunAndCheck(draw);  // More in one value than are sorted at once.
  draw.logits[39'999] = 3, draw.logits[20'000] = 3;
  RunAndCheck(draw);
  draw.keep = 0, draw.temperature = 0;
  EXPECT_EQ(Run({draw}, 0)[0].best.id, 20'000);
  draw.logits = {0.0f, -0.0f, -0.0f, 0.0f};
  EXPECT_EQ(Run({draw}, 0)[0].best.id, 0);
}

TEST_F(DrawTest, FindsTheGreatestWhereTheyStandTogether) {
  TestDraw draw{Random(40'000, 1)};
  draw.keep = 1024;
  for (int i = 0; i < 40'000; ++i) draw.logits[static_cast<size_t>(i)] = static_cast<float>(i);
  RunAndCheck(draw);
  std::reverse(draw.logits.begin(), draw.logits.end());
  RunAndCheck(draw);
  draw.temperature = 2.5f;  // Some become equal.
  for (float& v : draw.logits) v = 8 + v * 0x1p-22f;
  RunAndCheck(draw);
}

TEST_F(DrawTest, TakesWhatIsNotANumberForMinusInfinity) {
  for (const int keep : {0, 64, 1024}) {
    for (const float temperature : {0.0f, 1.0f}) {
      TestDraw draw{Random(3000, 1)};
      draw.keep = keep, draw.temperature = temperature;
      for (size_t i = 0; i < 3000; i += 2) draw.logits[i] = i % 4 == 0 ? NAN : -kInfinity;
      RunAndCheck(draw);
      std::fill(draw.logits.begin(), draw.logits.end(), NAN);
      RunAndCheck(draw);
      std::fill(draw.logits.begin(), draw.logits.end(), -kInfinity);
      draw.logits[1234] = -7;
      RunAndCheck(draw);
    }
  }
}

TEST_F(DrawTest, HasTheSameBitsAloneAndAmongOthers) {
  const int width = 4501;
  for (const int count : {2, 9, 17}) {
    std::vector<TestDraw> draws;
    for (int d = 0; d < count; ++d) {
      TestDraw draw{Random(width, static_cast<uint32_t>(d))};
      draw.temperature = d % 4 == 3 ? 0.0f : 0.5f + 0.1f * static_cast<float>(d);
      draw.keep = d % 3 == 1 ? 10 * d : 0;
      draw.agent = static_cast<uint32_t>(d), draw.index = static_cast<uint32_t>(7 * d);
      if (d % 2 == 1) draw.adjust = SomeAdjustments(3, width, 11 + d);
      draws.push_back(draw);
    }
    const auto together = Run(draws, 3, /*odd=*/true);
    for (int d = 0; d < count; ++d) {
      const size_t i = static_cast<size_t>(d);
      Check(draws[i], 3, together[i]);
      const auto alone = Run({draws[i]}, 3);
      ASSERT_EQ(BitsOf(alone[0].Numbers()), BitsOf(together[i].Numbers())) << d << " of " << count;
    }
  }
}

}  // namespace
}  // namespace conclave::worker::cuda
