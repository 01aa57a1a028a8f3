#include "cli/eval/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "cli/eval/draw.h"

namespace conclave::cli {
namespace {

TEST(WilsonIntervalTest, IsThePublishedOne) {
  // Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
  const auto near = [](Interval interval, double low, double high) {
    EXPECT_NEAR(interval.low, low, 5e-5);
    EXPECT_NEAR(interval.high, high, 5e-5);
  };
  near(WilsonInterval(81, 263), 0.2553, 0.3662);
  near(WilsonInterval(15, 148), 0.0624, 0.1605);
  near(WilsonInterval(0, 20), 0.0000, 0.1611);
  near(WilsonInterval(1, 29), 0.0061, 0.1718);
}

TEST(WilsonIntervalTest, OfNothingAnythingMayBe) {
  EXPECT_EQ(WilsonInterval(0, 0).low, 0);
  EXPECT_EQ(WilsonInterval(0, 0).high, 1);
}

// The sum of the binomial's terms, by whole numbers.
double McNemarByHand(int a, int b) {
  double term = 1, sum = 0;
  const int n = a + b, least = std::min(a, b);
  for (int i = 0; i <= least; ++i) {
    sum += term;
    term = term * (n - i) / (i + 1);
  }
  return std::min(1.0, 2 * sum / std::pow(2.0, n));
}

TEST(McNemarTest, IsTheExactBinomialTest) {
  EXPECT_EQ(McNemarTest(0, 0), 1);
  EXPECT_EQ(McNemarTest(7, 7), 1);
  EXPECT_NEAR(McNemarTest(0, 5), 0.0625, 1e-12);
  EXPECT_NEAR(McNemarTest(1, 9), 22.0 / 1024, 1e-12);
  for (int a = 0; a < 20; ++a) {
    for (int b = 0; b < 20; ++b) {
      const double by_hand = a == b ? 1 : McNemarByHand(a, b);
      EXPECT_NEAR(McNemarTest(a, b), by_hand, 1e-9) << a << " " << b;
    }
  }
}

TEST(McNemarTest, IsTheSameForBothSidesAndSmallForFarApart) {
  EXPECT_EQ(McNemarTest(30, 90), McNemarTest(90, 30));
  EXPECT_LT(McNemarTest(100, 1000), 1e-100);
  EXPECT_GT(McNemarTest(100, 1000), 0);
}

// Over all ways to draw k of n.
double PassByHand(int n, int right, int k) {
  int hits = 0, all = 0;
  for (unsigned drawn = 0; drawn < 1u << n; ++drawn) {
    if (__builtin_popcount(drawn) != k) continue;
    ++all;
    hits += (drawn & ((1u << right) - 1)) != 0 ? 1 : 0;
  }
  return static_cast<double>(hits) / all;
}

TEST(PassAtKTest, IsTheShareOfDrawsThatHoldARightOne) {
  for (int n = 1; n <= 8; ++n) {
    for (int right = 0; right <= n; ++right) {
      for (int k = 1; k <= n; ++k) {
        EXPECT_NEAR(PassAtK(n, right, k), PassByHand(n, right, k), 1e-12)
            << n << " " << right << " " << k;
      }
    }
  }
}

TEST(MeanIntervalTest, HoldsTheTrueMeanAboutAsOftenAsItSays) {
  int holds = 0;
  for (uint64_t trial = 0; trial < 200; ++trial) {
    Draw draw(7, trial);
    std::vector<double> values(60);
    for (double& value : values) value = draw.Unit();
    const Interval interval = MeanInterval(values);
    holds += interval.low <= 0.5 && 0.5 <= interval.high ? 1 : 0;
  }

  EXPECT_GE(holds, 180);
  EXPECT_LE(holds, 199);
}

TEST(MeanIntervalTest, IsTheSameEachTimeAndAPointWhereAllAreEqual) {
  const std::vector<double> values = {1, 2, 3, 4, 5, 6, 7, 8};
  EXPECT_EQ(MeanInterval(values).low, MeanInterval(values).low);
  EXPECT_EQ(MeanInterval({3, 3, 3}).low, 3);
  EXPECT_EQ(MeanInterval({3, 3, 3}).high, 3);
  EXPECT_EQ(MeanInterval({}).high, 0);
}

TEST(RatioIntervalTest, PairsKeepTogether) {
  // Each is twice the other: the ratio is known, whatever is drawn.
  const Interval interval = RatioInterval({2, 20, 200, 4}, {1, 10, 100, 2});
  EXPECT_DOUBLE_EQ(interval.low, 2);
  EXPECT_DOUBLE_EQ(interval.high, 2);
}

TEST(QuantileTest, IsTheLeastThatEnoughAreNotAbove) {
  std::vector<double> values(100);
  std::iota(values.begin(), values.end(), 1.0);
  EXPECT_EQ(Quantile(values, 0.5), 50);
  EXPECT_EQ(Quantile(values, 0.99), 99);
  EXPECT_EQ(Quantile(values, 1), 100);
  EXPECT_EQ(Quantile({4}, 0.01), 4);
  EXPECT_EQ(Quantile({}, 0.5), 0);
}

// Answers 0 (right), 1 and 2.
std::vector<Ballot> Pool(const std::vector<int>& answers) {
  std::vector<Ballot> pool;
  for (const int answer : answers) {
    pool.push_back({.answer = answer,
                    .right = answer == 0,
                    .tokens = 10 * (static_cast<int>(pool.size()) + 1)});
  }
  return pool;
}

TEST(MajorityAtKTest, OfAllItIsTheVoteAndTiesGoToTheFirst) {
  EXPECT_EQ(MajorityAtK(Pool({1, 0, 0, 2}), 4, 1).right, 1);
  EXPECT_EQ(MajorityAtK(Pool({0, 1, 1, 0}), 4, 1).right, 1);
  EXPECT_EQ(MajorityAtK(Pool({1, 0, 0, 1}), 4, 1).right, 0);
  EXPECT_EQ(MajorityAtK(Pool({-1, -1, -1, 0}), 4, 1).right, 1);
  EXPECT_EQ(MajorityAtK(Pool({-1, -1}), 2, 1).right, 0);
}

TEST(MajorityAtKTest, TokensAreTheSumAndTheLongest) {
  const MajorityPoint point = MajorityAtK(Pool({0, 0, 1, 1}), 4, 1);
  EXPECT_EQ(point.tokens, 100);
  EXPECT_EQ(point.critical_path, 40);
}

// Over all pairs and triples, which the draws come near to.
TEST(MajorityAtKTest, OfSomeItIsTheMeanOverDraws) {
  const std::vector<Ballot> pool = Pool({1, 0, 0, 2, 0, 1});
  double pairs = 0, triples = 0;
  int pair_count = 0, triple_count = 0;
  for (size_t a = 0; a < 6; ++a) {
    for (size_t b = a + 1; b < 6; ++b) {
      pairs += MajorityAtK({pool[a], pool[b]}, 2, 1).right;
      ++pair_count;
      for (size_t c = b + 1; c < 6; ++c) {
        triples += MajorityAtK({pool[a], pool[b], pool[c]}, 3, 1).right;
        ++triple_count;
      }
    }
  }
  double drawn_pairs = 0, drawn_triples = 0;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    drawn_pairs += MajorityAtK(pool, 2, seed).right / 100;
    drawn_triples += MajorityAtK(pool, 3, seed).right / 100;
  }

  EXPECT_NEAR(drawn_pairs, pairs / pair_count, 0.02);
  EXPECT_NEAR(drawn_triples, triples / triple_count, 0.02);
  EXPECT_NEAR(MajorityAtK(pool, 1, 5).right, 0.5, 0.2);
}

}  // namespace
}  // namespace conclave::cli
