#include "common/confidence.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace conclave {
namespace {

TokenEvent Drawn(float logprob, float top) {
  return {.id = 1, .logprob = logprob, .top_logprob_mean = top, .kind = TokenKind::kSampled};
}

constexpr TokenEvent kForced{.id = 2, .kind = TokenKind::kForced};

std::vector<TokenEvent> RandomTrace(int length, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> number(-20, 0);
  std::vector<TokenEvent> trace;
  for (int i = 0; i < length; ++i) {
    trace.push_back(random() % 5 == 0 ? kForced : Drawn(number(random), number(random)));
  }
  return trace;
}

TraceConfidence Of(const std::vector<TokenEvent>& trace, int window) {
  TraceConfidence confidence(window);
  for (const TokenEvent& token : trace) confidence.Add(token);
  return confidence;
}

TEST(TraceConfidenceTest, TheTwoQuantitiesAreNamedApartAndForcedTokensAreSkipped) {
  const TraceConfidence trace =
      Of({Drawn(-1, -8), kForced, Drawn(-2, -4), Drawn(-3, -12), kForced}, 2);
  EXPECT_EQ(trace.chosen().count(), 3);
  EXPECT_EQ(trace.chosen().mean(), -2);
  EXPECT_EQ(trace.chosen().lowest(), -2.5);
  EXPECT_EQ(trace.top20().mean(), 8);
  EXPECT_EQ(trace.top20().lowest(), 6);
  EXPECT_EQ(trace.top20().last(), 8);
}

TEST(TraceConfidenceTest, ATraceThatIsShorterThanTheWindowIsOneWindow) {
  const TraceConfidence trace = Of({Drawn(-1, -8), Drawn(-2, -4)}, 3);
  EXPECT_FALSE(trace.top20().full());
  EXPECT_EQ(trace.top20().lowest(), trace.top20().mean());
  EXPECT_EQ(trace.chosen().lowest(), -1.5);
  const TraceConfidence nothing(3);
  EXPECT_EQ(nothing.top20().lowest(), 0);
  EXPECT_EQ(nothing.MeanProbability(), 0);
}

// By the definition, in another order of summation.
TEST(TraceConfidenceTest, WindowsAreTheDefinitionsAndNeverDrift) {
  for (const int window : {1, 2, 7, 64, 1000}) {
    const std::vector<TokenEvent> trace = RandomTrace(700, static_cast<unsigned>(window));
    std::vector<int64_t> units;
    for (const TokenEvent& token : trace) {
      if (token.kind == TokenKind::kForced) continue;
      units.push_back(std::llround(std::ldexp(-double{token.top_logprob_mean}, 24)));
    }
    const auto mean = [&](size_t first, size_t last) {
      int64_t sum = 0;
      for (size_t i = last; i-- > first;) sum += units[i];
      return std::ldexp(static_cast<double>(sum), -24) / static_cast<double>(last - first);
    };
    double lowest = mean(0, units.size());
    const auto size = static_cast<size_t>(window);
    if (units.size() >= size) lowest = std::numeric_limits<double>::infinity();
    for (size_t end = size; end <= units.size(); ++end) {
      lowest = std::min(lowest, mean(end - size, end));
    }
    const TraceConfidence whole = Of(trace, window);
    EXPECT_EQ(whole.top20().lowest(), lowest);
    EXPECT_EQ(whole.top20().mean(), mean(0, units.size()));
    if (whole.top20().full()) {
      EXPECT_EQ(whole.top20().last(), mean(units.size() - size, units.size()));
    }
  }
}

TEST(TraceConfidenceTest, TheMeanProbabilityIsEToTheMean) {
  for (const double mean : {0.0, -1e-6, -0.1, -0.5, -1.0, -3.25, -30.0, -600.0}) {
    const TraceConfidence trace = Of({Drawn(static_cast<float>(mean), -1)}, 4);
    const double expected = std::exp(trace.chosen().mean());
    EXPECT_NEAR(trace.MeanProbability() / expected, 1, 1e-14) << mean;
  }
  EXPECT_EQ(Of({Drawn(0, 0)}, 4).MeanProbability(), 1);
}

TEST(TraceConfidenceTest, WhatNoModelShouldSayIsBounded) {
  const float infinite = std::numeric_limits<float>::infinity();
  const float none = std::numeric_limits<float>::quiet_NaN();
  const TraceConfidence trace = Of({Drawn(-infinite, -infinite), Drawn(none, none)}, 1);
  EXPECT_EQ(trace.chosen().mean(), -1024);
  EXPECT_EQ(trace.chosen().lowest(), -1024);
  EXPECT_EQ(trace.top20().lowest(), -1024) << "what is no number is no confidence";
  EXPECT_EQ(trace.MeanProbability(), 0);
}

}  // namespace
}  // namespace conclave
