#include "worker/backend/cuda/draw_call.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "common/status.h"

namespace conclave::worker::cuda {
namespace {

constexpr size_t kHead = 2 + kConfidenceTokens;  // Greatest, sum, greatest raw logits.

// Where results stand: heads, the best, the kept.
struct Places {
  size_t best = 0, kept = 0, size = 0;

  Places(size_t draws, size_t most_kept)
      : best((draws * kHead * sizeof(float) + 63) / 64 * 64),
        kept(best + (draws * sizeof(Candidate) + 63) / 64 * 64),
        size(kept + draws * most_kept * sizeof(Candidate)) {}
};

ShardResult ResultOf(const ShardDraw& draw, int64_t width, const float* head, const Candidate& best,
                     const Candidate* kept) {
  ShardResult result;
  result.max = head[0], result.sum = head[1];
  result.top_raw.assign(head + 2, head + 2 + std::min<int64_t>(kConfidenceTokens, width));
  if (draw.keep == 0) {
    result.best = best;
    return result;
  }
  const int64_t most = std::min<int64_t>(draw.keep, width);
  for (int64_t i = 0; i < most && kept[i].id >= 0; ++i) result.kept.push_back(kept[i]);
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
  const size_t draw_bytes = (device_draws.size() * sizeof(DeviceDraw) + 63) / 64 * 64;
  const size_t bytes = draw_bytes + adjustments.size() * sizeof(Adjustment);
  bool moved = false;  // Draws are never recorded.
  RETURN_IF_ERROR(input_.Reserve(bytes, stream, &moved));
  ASSIGN_OR_RETURN(void* const host, staging_.Next(bytes));
  std::memcpy(host, device_draws.data(), device_draws.size() * sizeof(DeviceDraw));
  if (!adjustments.empty()) {
    std::memcpy(static_cast<char*>(host) + draw_bytes, adjustments.data(),
                adjustments.size() * sizeof(Adjustment));
  }
  RETURN_IF_ERROR(staging_.CopyTo(input_.data(), bytes, stream));
  args->draws = static_cast<const DeviceDraw*>(input_.data());
  args->num_draws = static_cast<int>(draws.size());
  args->adjustments =
      reinterpret_cast<const Adjustment*>(static_cast<const char*>(input_.data()) + draw_bytes);
  args->width = width, args->first = first;
  const int64_t scratch = DrawScratchBytes(args->num_draws, width, args->most_kept);
  return scratch_.Reserve(static_cast<size_t>(scratch), stream, &moved);
}

absl::StatusOr<std::vector<ShardResult>> DrawCall::Run(const std::vector<ShardDraw>& draws,
                                                       int64_t width, TokenId first,
                                                       cudaStream_t stream) {
  std::vector<ShardResult> results;
  if (draws.empty() || width == 0) {
    RETURN_IF_ERROR(StatusOf(cudaStreamSynchronize(stream), "a draw"));
    results.resize(draws.size());
    for (ShardResult& each : results) {
      each.max = -std::numeric_limits<float>::infinity();
      each.best = {each.max, 0, -1};
    }
    return results;
  }
  DrawArgs args;
  RETURN_IF_ERROR(Upload(draws, width, first, stream, &args));
  const auto most_kept = static_cast<size_t>(args.most_kept);
  const Places places(draws.size(), most_kept);
  bool moved = false;
  RETURN_IF_ERROR(output_.Reserve(places.size, stream, &moved));
  if (result_bytes_ < places.size) {
    result_bytes_ = 0;
    ASSIGN_OR_RETURN(result_, AllocatePinned(places.size));
    result_bytes_ = places.size;
  }
  char* const device = static_cast<char*>(output_.data());
  args.scratch = scratch_.data();
  args.heads = reinterpret_cast<float*>(device);
  args.best = reinterpret_cast<Candidate*>(device + places.best);
  args.kept = reinterpret_cast<Candidate*>(device + places.kept);
  Draw(args, stream);
  char* const host = static_cast<char*>(result_.get());
  RETURN_IF_ERROR(StatusOf(
      cudaMemcpyAsync(host, device, places.size, cudaMemcpyDeviceToHost, stream), "a draw"));
  RETURN_IF_ERROR(StatusOf(cudaStreamSynchronize(stream), "a step"));
  const auto* heads = reinterpret_cast<const float*>(host);
  const auto* best = reinterpret_cast<const Candidate*>(host + places.best);
  const auto* kept = reinterpret_cast<const Candidate*>(host + places.kept);
  for (size_t i = 0; i < draws.size(); ++i) {
    results.push_back(ResultOf(draws[i], width, heads + i * kHead, best[i], kept + i * most_kept));
  }
  return results;
}

}  // namespace conclave::worker::cuda
