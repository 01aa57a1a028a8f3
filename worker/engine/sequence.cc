#include "worker/engine/sequence.h"

#include <algorithm>
#include <span>

namespace conclave::worker {

// What is known of the agent's names holds for the copy as far as their tokens are the same.
Sequence::Sequence(const SequenceOrigin& where, const Sequence& agent, int count, KvCache& cache)
    : origin(where),
      id(AgentId{static_cast<uint32_t>(agent.id) | kProbeBit}),
      sampling(agent.sampling),
      tokens(agent.tokens, count),
      asked(agent.origin.serial),
      at(count),
      table(cache),
      names_(agent.names_),
      marked_(agent.marked_) {
  const auto common = static_cast<size_t>(tokens.size());
  if (names_.size() > common / kBlockTokens) names_.resize(common / kBlockTokens);
  if (marked_.size() > common) marked_.resize(common);
}

std::span<const TokenId> Sequence::Named() {
  if (!origin.kinds_differ) return tokens.all();
  constexpr TokenId kProduced = 1 << 30;  // Above every id.
  while (static_cast<int>(marked_.size()) < tokens.size()) {
    const size_t i = marked_.size();
    const bool produced_here = static_cast<int>(i) >= tokens.prompt_length();
    marked_.push_back(produced_here ? tokens.all()[i] | kProduced : tokens.all()[i]);
  }
  return marked_;
}

const BlockName& Sequence::NameOf(int index) {
  const std::span<const TokenId> known = Named();
  while (static_cast<int>(names_.size()) <= index) {
    const BlockName& before = names_.empty() ? origin.root : names_.back();
    names_.push_back(NextName(before, known.subspan(names_.size() * kBlockTokens, kBlockTokens)));
  }
  return names_[index];
}

BlockName Sequence::WholeName() {
  const int full = tokens.size() / kBlockTokens;
  const int tail = tokens.size() % kBlockTokens;
  if (tail == 0) return NameBefore(full);
  return NextName(NameBefore(full), Named().last(tail));
}

void Sequence::PublishFull(KvCache& cache, uint64_t step) {
  const int full = std::min(computed, tokens.size()) / kBlockTokens;
  for (; published < full; ++published) {
    const size_t first = static_cast<size_t>(published) * kBlockTokens;
    cache.Publish(table, published,
                  {NameBefore(published), NameOf(published), Named().subspan(first, kBlockTokens)},
                  step);
  }
}

int Sequence::BlocksWanted() const {
  // The last token of the grant is never computed.
  return BlocksFor(std::min(tokens.size() + 1, tokens.greatest_size() - 1));
}

}  // namespace conclave::worker
