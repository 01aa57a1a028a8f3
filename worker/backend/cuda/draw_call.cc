#include "worker/backend/cuda/draw_call.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "common/check.h"
#include "common/status.h"

namespace conclave::worker::cuda {
namespace {

constexpr size_t kLeastDrawn = 1024;  // So that drawn() seldom moves.

// Where results stand: heads, the best, the kept.
struct Places {
  size_t best = 0, kept = 0, size = 0;

  Places(size_t draws, size_t most_kept)
      : best((draws * kDrawHead * sizeof(float) + 63) / 64 * 64),
        kept(best + (draws * sizeof(Candidate) + 63) / 64 * 64),
        size(kept + draws * most_kept * sizeof(Candidate)) {}
};

ShardResult ResultOf(int keep, int64_t width, const float* head, const Candidate& best,
                     const Candidate* kept) {
  ShardResult result;
  result.max = head[0], result.sum = head[1];
  const int64_t top = std::min<int64_t>(kConfidenceTokens, width);
  result.top_raw.assign(head + 2, head + 2 + top);
  for (int64_t i = 0; i < top; ++i) {
    result.top_ids.push_back(std::bit_cast<TokenId>(head[2 + kConfidenceTokens + i]));
  }
  if (keep == 0) {
    result.best = best;
    return result;
  }
  const int64_t most = std::min<int64_t>(keep, width);
  for (int64_t i = 0; i < most && kept[i].id >= 0; ++i) result.kept.push_back(kept[i]);
  return result;
}

// Of a rank without a part of the vocabulary.
ShardResult NoResult() {
  ShardResult result;
  result.max = -std::numeric_limits<float>::infinity();
  result.best = {result.max, 0, -1};
  return result;
}

}  // namespace

absl::Status DrawCall::Upload(const std::vector<ShardDraw>& draws, int64_t width, TokenId first,
                              cudaStream_t stream, DrawArgs* args) {
  std::vector<DeviceDraw> device_draws;
  std::vector<Adjustment> adjustments;
  for (const ShardDraw& draw : draws) {
    DeviceDraw& to = device_draws.emplace_back();
    to.logits = draw.logits;
    to.temperature = draw.temperature;
    to.seed = draw.seed, to.agent = draw.agent, to.index = draw.index;
    to.keep = draw.keep;
    to.first_adjustment = static_cast<int32_t>(adjustments.size());
    for (const Adjustment& each : draw.adjust) {
      if (each.id >= first && each.id - first < width) adjustments.push_back(each);
    }
    to.num_adjustments = static_cast<int32_t>(adjustments.size()) - to.first_adjustment;
    args->most_kept = std::max(args->most_kept, draw.keep);
  }
  args->most_kept = static_cast<int>(std::min<int64_t>(args->most_kept, width));
  args->num_draws = static_cast<int>(draws.size());
  args->width = width, args->first = first;
  const int64_t scratch = DrawScratchBytes(args->num_draws, width, args->most_kept);
  bool moved = false;  // Draws are never recorded.
  RETURN_IF_ERROR(scratch_.Reserve(static_cast<size_t>(scratch), stream, &moved));
  args->scratch = scratch_.data();
  if (adjustments.empty() && device_draws.size() <= kFewDraws) {
    std::copy(device_draws.begin(), device_draws.end(), args->few.of);
    return absl::OkStatus();
  }
  const size_t draw_bytes = (device_draws.size() * sizeof(DeviceDraw) + 63) / 64 * 64;
  const size_t bytes = draw_bytes + adjustments.size() * sizeof(Adjustment);
  RETURN_IF_ERROR(input_.Reserve(bytes, stream, &moved));
  ASSIGN_OR_RETURN(void* const host, staging_.Next(bytes));
  std::memcpy(host, device_draws.data(), device_draws.size() * sizeof(DeviceDraw));
  if (!adjustments.empty()) {
    std::memcpy(static_cast<char*>(host) + draw_bytes, adjustments.data(),
                adjustments.size() * sizeof(Adjustment));
  }
  RETURN_IF_ERROR(staging_.CopyTo(input_.data(), bytes, stream));
  args->draws = static_cast<const DeviceDraw*>(input_.data());
  args->adjustments =
      reinterpret_cast<const Adjustment*>(static_cast<const char*>(input_.data()) + draw_bytes);
  return absl::OkStatus();
}

absl::Status DrawCall::Launch(const std::vector<ShardDraw>& draws, int64_t width, TokenId first,
                              cudaStream_t stream, Result* result) {
  DrawArgs args;
  RETURN_IF_ERROR(Upload(draws, width, first, stream, &args));
  result->most_kept = static_cast<size_t>(args.most_kept);
  const Places places(draws.size(), result->most_kept);
  const size_t most_drawn = std::max(draws.size(), kLeastDrawn);
  RETURN_IF_ERROR(drawn_.Reserve(most_drawn * sizeof(int32_t), stream, &moved_));
  if (result->bytes < places.size) {
    result->bytes = 0;
    const size_t room = std::bit_ceil(places.size);
    ASSIGN_OR_RETURN(result->memory, AllocatePinned(room));
    result->bytes = room;
  }
  char* const host = static_cast<char*>(result->memory.get());  // The kernels write it.
  args.heads = reinterpret_cast<float*>(host);
  args.best = reinterpret_cast<Candidate*>(host + places.best);
  args.drawn = static_cast<int32_t*>(drawn_.data());
  args.kept = reinterpret_cast<Candidate*>(host + places.kept);
  Draw(args, stream);
  return absl::OkStatus();
}

absl::Status DrawCall::Begin(const std::vector<ShardDraw>& draws, int64_t width, TokenId first,
                             cudaStream_t stream) {
  CHECK(begun_ - taken_ < 2);
  Result& result = results_[begun_ % 2];
  if (!result.done) {
    ASSIGN_OR_RETURN(result.done, MakeEvent());
  }
  result.keeps.clear();
  for (const ShardDraw& draw : draws) result.keeps.push_back(draw.keep);
  result.width = width;
  if (!draws.empty() && width > 0) {
    RETURN_IF_ERROR(Launch(draws, width, first, stream, &result));
  }
  RETURN_IF_ERROR(StatusOf(cudaEventRecord(result.done.get(), stream), "a draw"));
  ++begun_;
  return absl::OkStatus();
}

bool DrawCall::IsDone() {
  CHECK(taken_ < begun_);
  const bool done = cudaEventQuery(results_[taken_ % 2].done.get()) != cudaErrorNotReady;
  if (!done) (void)cudaGetLastError();  // No error; the launches' own were looked at before.
  return done;
}

absl::StatusOr<std::vector<ShardResult>> DrawCall::Take() {
  CHECK(taken_ < begun_);
  const Result& result = results_[taken_++ % 2];
  RETURN_IF_ERROR(StatusOf(cudaEventSynchronize(result.done.get()), "a step"));
  const size_t draws = result.keeps.size();
  std::vector<ShardResult> results;
  if (result.width == 0) {
    results.assign(draws, NoResult());
    return results;
  }
  const Places places(draws, result.most_kept);
  const char* const host = static_cast<const char*>(result.memory.get());
  const auto* heads = reinterpret_cast<const float*>(host);
  const auto* best = reinterpret_cast<const Candidate*>(host + places.best);
  const auto* kept = reinterpret_cast<const Candidate*>(host + places.kept);
  results.reserve(draws);
  for (size_t i = 0; i < draws; ++i) {
    results.push_back(ResultOf(result.keeps[i], result.width, heads + i * kDrawHead, best[i],
                               kept + i * result.most_kept));
  }
  return results;
}

}  // namespace conclave::worker::cuda
