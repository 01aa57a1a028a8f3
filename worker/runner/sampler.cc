#include "worker/runner/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "common/status.h"
#include "worker/backend/random.h"

namespace conclave::worker {
namespace {

// What one rank says of one draw, as floats: max, sum, greatest raw logits, their ids, the best
// candidate, and with a filter the kept ones.
constexpr int kHead = 2 + 2 * kConfidenceTokens;
static_assert(kMostTopLogprobs <= kConfidenceTokens);
constexpr int kCandidate = 3;
constexpr float kNothing = -std::numeric_limits<float>::infinity();

bool Filtered(const Sampling& s) {
  return s.temperature != 0 && (s.top_k > 0 || s.top_p < 1 || s.min_p > 0);
}

int KeptBy(const Sampling& s) {
  if (!Filtered(s)) return 0;
  return s.top_k > 0 ? std::min(s.top_k, kMostCandidates) : kMostCandidates;
}

// Penalties first, then bias, then the bar on tokens that must not come yet. Repetition looks at
// the prompt too (as it was defined, CTRL 2019); presence and frequency at what was produced (as
// the OpenAI API defines them).
std::vector<Adjustment> AdjustmentsOf(const DrawRequest& request) {
  const Sampling& s = *request.sampling;
  std::map<TokenId, float> bias;
  for (const auto& [id, value] : s.logit_bias) bias[id] += value;
  if (request.rules != nullptr && request.index < request.rules->barred_until) {
    for (const TokenId id : request.rules->barred) bias[id] = kNothing;
  }
  std::map<TokenId, int> ids;
  for (const auto& [id, value] : bias) ids[id];
  const bool repetition = s.repetition_penalty != 1 && request.seen != nullptr;
  if (repetition) ids.insert(request.seen->begin(), request.seen->end());
  const bool counted =
      (s.presence_penalty != 0 || s.frequency_penalty != 0) && request.produced != nullptr;
  if (counted) ids.insert(request.produced->begin(), request.produced->end());
  std::vector<Adjustment> adjust;
  for (const auto& [id, unused] : ids) {
    const bool repeated = repetition && request.seen->contains(id);
    const auto produced =
        counted ? request.produced->find(id) : std::map<TokenId, int>::const_iterator{};
    const int times = counted && produced != request.produced->end() ? produced->second : 0;
    Adjustment each{.id = id};
    if (repeated) each.repetition = s.repetition_penalty;
    if (times > 0) {
      each.subtract = s.presence_penalty + s.frequency_penalty * static_cast<float>(times);
    }
    if (bias.contains(id)) each.add = bias.at(id);
    adjust.push_back(each);
  }
  return adjust;
}

void Write(const Candidate& candidate, float* to) {
  to[0] = candidate.value;
  to[1] = candidate.raw;
  to[2] = std::bit_cast<float>(candidate.id);
}

Candidate ReadCandidate(const float* from) {
  return {from[0], from[1], std::bit_cast<TokenId>(from[2])};
}

bool Precedes(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}

ShardDraw DrawOf(const DrawRequest& request) {
  ShardDraw draw;
  draw.logits = request.logits;
  draw.temperature = request.sampling->temperature;
  draw.seed = request.seed, draw.agent = static_cast<uint32_t>(request.agent);
  draw.index = static_cast<uint32_t>(request.index);
  draw.adjust = AdjustmentsOf(request), draw.keep = KeptBy(*request.sampling);
  return draw;
}

// This rank's words about one draw; null when it has no part of the vocabulary.
void Describe(int keep, const ShardResult* result, float* out) {
  std::fill_n(out, kHead + kCandidate * std::max(1, keep), kNothing);
  std::fill_n(out + 2 + kConfidenceTokens, kConfidenceTokens, std::bit_cast<float>(TokenId{-1}));
  for (int i = 0; i < std::max(1, keep); ++i)
    Write({kNothing, 0, -1}, out + kHead + i * kCandidate);
  out[1] = 0;
  if (result == nullptr) return;
  out[0] = result->max, out[1] = result->sum;
  std::copy(result->top_raw.begin(), result->top_raw.end(), out + 2);
  for (size_t i = 0; i < result->top_ids.size(); ++i)
    out[2 + kConfidenceTokens + i] = std::bit_cast<float>(result->top_ids[i]);
  if (keep == 0) Write(result->best, out + kHead);
  for (size_t i = 0; i < result->kept.size(); ++i)
    Write(result->kept[i], out + kHead + i * kCandidate);
}

// Top-k, then top-p of what is left, then min-p; `all` is sorted. Returns how many stay, at
// least 1.
size_t Keep(const Sampling& s, const std::vector<Candidate>& all) {
  size_t count = all.size();
  if (s.top_k > 0) count = std::min<size_t>(count, s.top_k);
  double total = 0;
  for (size_t i = 0; i < count; ++i) total += std::exp(double{all[i].value} - all[0].value);
  if (s.top_p < 1) {
    double sum = 0;
    size_t kept = 0;
    while (kept < count && sum < s.top_p * total)
      sum += std::exp(double{all[kept++].value} - all[0].value);
    count = std::max<size_t>(1, kept);
  }
  if (s.min_p > 0) {
    const double least = std::log(double{s.min_p}) + all[0].value;
    while (count > 1 && all[count - 1].value < least) --count;
  }
  return count;
}

Candidate Choose(const DrawRequest& request, std::vector<Candidate> all) {
  std::sort(all.begin(), all.end(), Precedes);
  while (all.size() > 1 && all.back().id < 0) all.pop_back();
  if (KeptBy(*request.sampling) == 0) return all[0];
  all.resize(Keep(*request.sampling, all));
  Candidate best{kNothing, 0, -1};
  for (Candidate each : all) {
    each.value += GumbelNoise(request.seed, static_cast<uint32_t>(request.agent),
                              static_cast<uint32_t>(request.index), static_cast<uint32_t>(each.id));
    if (best.id < 0 || Precedes(each, best)) best = each;
  }
  return best;
}

// The greatest raw logits of all ranks, falling, ties to the lower id.
std::vector<Candidate> TopOf(const std::vector<const float*>& words) {
  std::vector<Candidate> top;
  for (const float* rank : words) {
    for (int i = 0; i < kConfidenceTokens; ++i) {
      const float raw = rank[2 + i];
      if (raw > kNothing)
        top.push_back({raw, raw, std::bit_cast<TokenId>(rank[2 + kConfidenceTokens + i])});
    }
  }
  std::sort(top.begin(), top.end(), Precedes);
  if (top.size() > kConfidenceTokens) top.resize(kConfidenceTokens);
  return top;
}

// All ranks' words about one draw, in rank order, to the token.
TokenEvent Decide(const DrawRequest& request, const std::vector<const float*>& words) {
  float max = kNothing;
  for (const float* rank : words) max = std::max(max, rank[0]);
  double sum = 0;
  std::vector<Candidate> candidates;
  for (const float* rank : words) {
    if (rank[1] > 0) sum += double{rank[1]} * std::exp(double{rank[0]} - max);
    for (int i = 0; i < std::max(1, KeptBy(*request.sampling)); ++i) {
      candidates.push_back(ReadCandidate(rank + kHead + i * kCandidate));
    }
  }
  const double log_sum = max + std::log(sum);
  const std::vector<Candidate> top = TopOf(words);
  double top_sum = 0;
  for (const Candidate& each : top) top_sum += each.raw - log_sum;
  const Candidate chosen = Choose(request, std::move(candidates));
  TokenEvent event;
  event.id = chosen.id;
  event.logprob = static_cast<float>(chosen.raw - log_sum);
  event.top_logprob_mean = static_cast<float>(top_sum / static_cast<double>(top.size()));
  const int told = request.rules == nullptr ? 0 : request.rules->top_logprobs;
  if (told == 0) return event;
  event.told.push_back({.id = event.id, .logprob = event.logprob, .text = {}});
  for (size_t i = 0; i < top.size() && std::cmp_less(i, told); ++i) {
    const auto logprob = static_cast<float>(top[i].raw - log_sum);
    event.told.push_back({.id = top[i].id, .logprob = logprob, .text = {}});
  }
  return event;
}

}  // namespace

bool DecidedByDevice(const Sampling& sampling) { return KeptBy(sampling) == 0; }

absl::Status BeginTokens(const std::vector<DrawRequest>& requests, TokenId first, int width,
                         Device& device) {
  std::vector<ShardDraw> draws;
  if (width > 0) {
    draws.reserve(requests.size());
    for (const DrawRequest& request : requests) draws.push_back(DrawOf(request));
  }
  return device.BeginDraw(draws, width, first);
}

absl::StatusOr<std::vector<TokenEvent>> TakeTokens(const std::vector<DrawRequest>& requests,
                                                   Device& device, Collective& collective) {
  // None for a rank without a part of the vocabulary.
  ASSIGN_OR_RETURN(const std::vector<ShardResult> results, device.TakeDraw());
  std::vector<TokenEvent> tokens;
  if (requests.empty()) return tokens;
  std::vector<int64_t> offsets = {0};
  for (const DrawRequest& request : requests) {
    offsets.push_back(offsets.back() + kHead + kCandidate * std::max(1, KeptBy(*request.sampling)));
  }
  const int64_t floats = offsets.back();
  std::vector<float> mine(floats), all(floats * collective.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    Describe(KeptBy(*requests[i].sampling), results.empty() ? nullptr : &results[i],
             mine.data() + offsets[i]);
  }
  RETURN_IF_ERROR(collective.AllGather(mine.data(), floats, all.data()));
  for (size_t i = 0; i < requests.size(); ++i) {
    std::vector<const float*> words;
    for (int r = 0; r < collective.size(); ++r)
      words.push_back(all.data() + r * floats + offsets[i]);
    tokens.push_back(Decide(requests[i], words));
  }
  return tokens;
}

absl::StatusOr<std::vector<TokenEvent>> DrawTokens(const std::vector<DrawRequest>& requests,
                                                   TokenId first, int width, Device& device,
                                                   Collective& collective) {
  RETURN_IF_ERROR(BeginTokens(requests, first, width, device));
  return TakeTokens(requests, device, collective);
}

}  // namespace conclave::worker
