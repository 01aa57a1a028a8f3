#include "worker/engine/admission.h"

#include <algorithm>
#include <cstdint>
#include <unordered_set>

#include "common/check.h"
#include "common/status.h"

namespace conclave::worker {
namespace {

using Names = std::unordered_set<BlockName, BlockNameHash>;

absl::Status CheckToken(TokenId token, const char* what, int vocab_size) {
  if (token >= 0 && token < vocab_size) return absl::OkStatus();
  return InvalidArgument("{} token {} is outside of the vocabulary of {}", what, token, vocab_size);
}

// Blocks of the whole agent, its grant used up, that are not in `shared` yet; adds its prompt's.
int64_t BlocksAtMost(Sequence& sequence, Names& shared) {
  const int prompt_blocks = sequence.tokens.prompt_length() / kBlockTokens;
  int64_t blocks = BlocksFor(sequence.tokens.greatest_size() - 1);
  for (int i = 0; i < prompt_blocks; ++i) {
    if (!shared.insert(sequence.NameOf(i)).second) --blocks;
  }
  return blocks;
}

absl::Status CheckProbes(const ProbeRules& probes, int vocab_size) {
  if (probes.every < 0) return InvalidArgument("probes every {} tokens", probes.every);
  if (probes.every == 0) return absl::OkStatus();
  CHECK(probes.policy != nullptr);
  if (probes.tokens < 1) return InvalidArgument("probes of {} tokens; at least 1", probes.tokens);
  if (probes.force.empty()) return InvalidArgument("probes without an end of thinking");
  for (const TokenId token : probes.force) {
    RETURN_IF_ERROR(CheckToken(token, "forced", vocab_size));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSpec(const AgentSpec& spec, const GroupShape& shape) {
  CHECK(spec.policy != nullptr);
  if ((static_cast<uint32_t>(spec.id) & kProbeBit) != 0) {
    return InvalidArgument("the id has the bit of copies");
  }
  if (spec.prompt.empty()) return InvalidArgument("the prompt is empty");
  if (spec.grant < 1) return InvalidArgument("the grant is {}; it must be at least 1", spec.grant);
  if (!(spec.bar.bar >= 0) || spec.bar.window < 1 || spec.bar.window > kMostConfidenceWindow) {
    return InvalidArgument("a bar of {} over {} tokens; it must be at least 0, over 1 to {}",
                           spec.bar.bar, spec.bar.window, kMostConfidenceWindow);
  }
  const int64_t positions = static_cast<int64_t>(spec.prompt.size()) + spec.grant;
  if (positions > shape.max_positions) {
    return OutOfRange("a prompt of {} tokens and a grant of {}; the model has {} positions",
                      spec.prompt.size(), spec.grant, shape.max_positions);
  }
  for (const TokenId token : spec.prompt) {
    RETURN_IF_ERROR(CheckToken(token, "prompt", shape.vocab_size));
  }
  for (const TokenEvent& token : spec.produced) {
    RETURN_IF_ERROR(CheckToken(token.id, "produced", shape.vocab_size));
  }
  for (const TokenId token : spec.rules.barred) {
    RETURN_IF_ERROR(CheckToken(token, "barred", shape.vocab_size));
  }
  RETURN_IF_ERROR(CheckProbes(spec.probes, shape.vocab_size));
  return absl::OkStatus();
}

Admission CheckFit(const Gang& gang, int blocks, int max_slots) {
  int width = 0;
  int64_t together = 0;
  int64_t wanted = 0;
  Names shared;
  for (const auto& sequence : gang) {
    Names alone;
    const bool resumed = !sequence->produced.empty();
    wanted = BlocksAtMost(*sequence, resumed ? alone : shared);
    if (!resumed) wanted = together += wanted;
    if (wanted > blocks || width == max_slots) break;
    ++width;
  }
  const int agents = static_cast<int>(gang.size());
  if (width == agents) return {absl::OkStatus(), width};
  if (width == max_slots) {
    return {OutOfRange("a gang of {} agents; the group runs at most {}", agents, max_slots), width};
  }
  return {OutOfRange("{} agents with their grants need more than the group's {} blocks of KV; {} "
                     "of them fit",
                     agents, blocks, width),
          width};
}

int BlocksToStart(const std::vector<Sequence*>& sequences, const KvCache& cache) {
  Names counted;
  int blocks = 0;
  for (Sequence* sequence : sequences) {
    const int have = sequence->table.size();
    const int full = sequence->tokens.size() / kBlockTokens;
    const int hits = (sequence->tokens.size() - 1) / kBlockTokens;
    for (int i = have; i < full; ++i) {
      const BlockName& name = sequence->NameOf(i);
      if (i < hits && cache.Held(name)) continue;
      if (counted.insert(name).second) ++blocks;
    }
    blocks += std::max(0, sequence->BlocksWanted() - std::max(full, have));
  }
  return blocks;
}

}  // namespace conclave::worker
