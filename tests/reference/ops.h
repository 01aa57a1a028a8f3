#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <vector>

// The operations in their plainest form, summed in double: what the kernels are compared with.
namespace conclave::reference {

// y = W x; w [out][in]
inline std::vector<double> Linear(const std::vector<float>& w, const float* x, int in) {
  std::vector<double> y(w.size() / in);
  for (size_t o = 0; o < y.size(); ++o) {
    for (int k = 0; k < in; ++k) y[o] += static_cast<double>(w[o * in + k]) * x[k];
  }
  return y;
}

inline std::vector<double> RmsNorm(const std::vector<float>& x, const std::vector<float>& gain,
                                   double eps) {
  double squares = 0;
  for (const float v : x) squares += static_cast<double>(v) * v;
  std::vector<double> y(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    y[i] = x[i] / std::sqrt(squares / static_cast<double>(x.size()) + eps) * gain[i];
  }
  return y;
}

inline double Silu(double x) { return x / (1 + std::exp(-x)); }

// By expert: softmax of the scores where they are among the `chosen` greatest (ties to the lower
// expert), else 0; over their sum when `renormalise`.
inline std::vector<double> ExpertWeightsOf(const std::vector<float>& scores, int chosen,
                                           bool renormalise) {
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  double all = 0, kept = 0;
  for (const float score : scores) all += std::exp(static_cast<double>(score));
  std::vector<double> weights(scores.size());
  for (int i = 0; i < chosen; ++i) {
    weights[order[i]] = std::exp(static_cast<double>(scores[order[i]])) / all;
    kept += weights[order[i]];
  }
  for (double& weight : weights) weight /= renormalise ? kept : 1;
  return weights;
}

// One head: q [E], keys and values [positions][E].
inline std::vector<double> Attend(const std::vector<float>& q,
                                  const std::vector<std::vector<float>>& keys,
                                  const std::vector<std::vector<float>>& values, double scale) {
  std::vector<double> scores;
  double max = -INFINITY, sum = 0;
  for (const auto& key : keys) {
    double dot = 0;
    for (size_t e = 0; e < q.size(); ++e) dot += static_cast<double>(q[e]) * key[e];
    scores.push_back(dot * scale);
    max = std::max(max, scores.back());
  }
  std::vector<double> out(q.size());
  for (size_t t = 0; t < keys.size(); ++t) {
    const double weight = std::exp(scores[t] - max);
    sum += weight;
    for (size_t e = 0; e < q.size(); ++e) out[e] += weight * values[t][e];
  }
  for (double& v : out) v /= sum;
  return out;
}

}  // namespace conclave::reference
