#include "cli/eval/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cli/eval/draw.h"

namespace conclave::cli {
namespace {

constexpr double kZ = 1.959963984540054;  // The normal distribution's 97.5th percentile.
constexpr int kResamples = 1000;
constexpr int kPoolDraws = 64;  // For one question: the average over questions is what is shown.
constexpr uint64_t kSeed = 20'091'212;

Interval MiddleOf(std::vector<double> resampled) {
  std::sort(resampled.begin(), resampled.end());
  const auto at = [&resampled](double q) {
    return resampled[static_cast<size_t>(q * static_cast<double>(resampled.size() - 1) + 0.5)];
  };
  return {at(0.025), at(0.975)};
}

// The winner of a vote, or -1: `order` names ballots in order of counting. `counts` has a place for
// each answer, and comes back cleared.
int Winner(const std::vector<Ballot>& pool, const std::vector<int>& order,
           std::vector<int>& counts) {
  int most = 0;
  for (const int i : order) {
    const int answer = pool[static_cast<size_t>(i)].answer;
    if (answer >= 0) most = std::max(most, ++counts[static_cast<size_t>(answer)]);
  }
  int winner = -1;
  for (const int i : order) {
    const int answer = pool[static_cast<size_t>(i)].answer;
    if (answer < 0) continue;
    int& count = counts[static_cast<size_t>(answer)];
    if (winner < 0 && most > 0 && count == most) winner = i;
  }
  for (const int i : order) {
    const int answer = pool[static_cast<size_t>(i)].answer;
    if (answer >= 0) counts[static_cast<size_t>(answer)] = 0;
  }
  return winner;
}

}  // namespace

Interval WilsonInterval(int64_t successes, int64_t n) {
  if (n == 0) return {0, 1};
  const double count = static_cast<double>(n);
  const double share = static_cast<double>(successes) / count;
  const double scale = 1 + kZ * kZ / count;
  const double middle = (share + kZ * kZ / (2 * count)) / scale;
  const double half =
      kZ * std::sqrt(share * (1 - share) / count + kZ * kZ / (4 * count * count)) / scale;
  // Exact at the ends, where rounding would leave a little.
  return {successes == 0 ? 0 : middle - half, successes == n ? 1 : middle + half};
}

double McNemarTest(int64_t only_a, int64_t only_b) {
  const double n = static_cast<double>(only_a + only_b);
  const int64_t least = std::min(only_a, only_b);
  if (only_a == only_b) return 1;
  double tail = 0;
  for (int64_t i = 0; i <= least; ++i) {
    const double k = static_cast<double>(i);
    tail += std::exp(std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1) -
                     n * std::log(2.0));
  }
  return std::min(1.0, 2 * tail);
}

double PassAtK(int n, int right, int k) {
  if (n - right < k) return 1;
  double none = 1;
  for (int i = n - right + 1; i <= n; ++i) none *= 1 - static_cast<double>(k) / i;
  return 1 - none;
}

double Mean(const std::vector<double>& values) {
  if (values.empty()) return 0;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

Interval MeanInterval(const std::vector<double>& values) {
  return RatioInterval(values, std::vector<double>(values.size(), 1.0));
}

Interval RatioInterval(const std::vector<double>& above, const std::vector<double>& below) {
  if (above.empty()) return {};
  std::vector<double> resampled;
  const int64_t last = static_cast<int64_t>(above.size()) - 1;
  for (int resample = 0; resample < kResamples; ++resample) {
    Draw draw(kSeed, static_cast<uint64_t>(resample));
    double a = 0, b = 0;
    for (int64_t i = 0; i <= last; ++i) {
      const size_t at = static_cast<size_t>(draw.Int(0, last));
      a += above[at];
      b += below[at];
    }
    resampled.push_back(b == 0 ? 0 : a / b);
  }
  return MiddleOf(std::move(resampled));
}

double Quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  const double rank = std::ceil(q * static_cast<double>(values.size()));
  const size_t at = std::min(static_cast<size_t>(std::max(rank, 1.0)), values.size()) - 1;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(at), values.end());
  return values[at];
}

MajorityPoint MajorityAtK(const std::vector<Ballot>& pool, int k, uint64_t seed) {
  const int n = static_cast<int>(pool.size());
  int answers = 0;
  for (const Ballot& ballot : pool) answers = std::max(answers, ballot.answer + 1);
  std::vector<int> counts(static_cast<size_t>(answers), 0), all(pool.size());
  std::iota(all.begin(), all.end(), 0);
  const int draws = k == n ? 1 : kPoolDraws;
  MajorityPoint sum;
  for (int i = 0; i < draws; ++i) {
    std::vector<int> drawn = all;
    if (k < n) {
      Draw draw(seed, static_cast<uint64_t>(i));
      for (int j = 0; j < k; ++j) {
        std::swap(drawn[static_cast<size_t>(j)], drawn[static_cast<size_t>(draw.Int(j, n - 1))]);
      }
      drawn.resize(static_cast<size_t>(k));
      std::sort(drawn.begin(), drawn.end());
    }
    const int winner = Winner(pool, drawn, counts);
    sum.right += winner >= 0 && pool[static_cast<size_t>(winner)].right ? 1 : 0;
    int longest = 0;
    for (const int each : drawn) {
      const int tokens = pool[static_cast<size_t>(each)].tokens;
      sum.tokens += tokens;
      longest = std::max(longest, tokens);
    }
    sum.critical_path += longest;
  }
  return {sum.right / draws, sum.tokens / draws, sum.critical_path / draws};
}

}  // namespace conclave::cli
