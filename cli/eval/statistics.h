#pragma once

#include <cstdint>
#include <utility>
#include <vector>

// What can be said of numbers that were measured on some of all questions. Pure.
namespace conclave::cli {

// 95 % of such intervals hold the true value.
struct Interval {
  double low = 0, high = 0;
};

// Of a share of n: Wilson's score interval. n = 0: all of [0, 1].
Interval WilsonInterval(int64_t successes, int64_t n);

// McNemar's test, exact, two-sided: how likely it is that of two equally good ones, one is right on
// `only_a` and the other on `only_b` questions that the other got wrong, or that they lie further
// apart.
double McNemarTest(int64_t only_a, int64_t only_b);

// How likely it is that k answers, drawn without replacement from n of which `right` are right,
// hold a right one: 1 - C(n - right, k) / C(n, k). REQUIRES: 0 <= right <= n, 1 <= k <= n.
double PassAtK(int n, int right, int k);

double Mean(const std::vector<double>& values);

// The bootstrap's, by percentiles; the same numbers give the same interval. Of one value: itself
// alone.
Interval MeanInterval(const std::vector<double>& values);
// Of sum(above) / sum(below), question by question. REQUIRES: equally many.
Interval RatioInterval(const std::vector<double>& above, const std::vector<double>& below);

// The least value that at least a share q of all is not above. 0 of none.
double Quantile(std::vector<double> values, double q);

// One answer of a pool.
struct Ballot {
  int answer = -1;  // Equal answers have equal numbers; below 0: it has none, and no vote.
  bool right = false;
  int tokens = 0;  // When it was there.
};

// What a vote among some of a pool comes to, on average.
struct MajorityPoint {
  double right = 0;          // How often it is right.
  double tokens = 0;         // Of all its agents.
  double critical_path = 0;  // Of the longest.
};

// The vote of k agents drawn without replacement from the pool, over many draws by the seed; of all
// of them when k is their number. Most votes win, of equally many the answer that was there first.
// REQUIRES: 1 <= k <= the pool's size; the pool is in the order in which its ends were counted.
MajorityPoint MajorityAtK(const std::vector<Ballot>& pool, int k, uint64_t seed);

}  // namespace conclave::cli
