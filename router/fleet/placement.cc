#include "router/fleet/placement.h"

#include <algorithm>
#include <string_view>
#include <tuple>

namespace conclave::router {
namespace {

// FNV-1a, 64 bits.
uint64_t Hash(std::string_view bytes, uint64_t hash = 0xcbf29ce484222325u) {
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

// The finaliser of SplitMix64: FNV alone leaves neighbouring inputs with neighbouring high bits.
uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

bool Serves(const GroupView& group, const PlacementQuestion& question) {
  if (!group.ready() || group.description == nullptr) return false;
  const ModelDescription& model = group.description->model;
  if (model.name != question.model) return false;
  if (!question.fingerprint.empty() && model.fingerprint != question.fingerprint) return false;
  return group.load.credits >= std::max(1, question.agents);
}

auto QueueOf(const GroupView& group) {
  return std::tuple(group.load.queued_prompt_tokens, group.load.agents_running);
}

}  // namespace

std::optional<int> Place(const std::vector<GroupView>& groups, const PlacementQuestion& question) {
  std::optional<int> shortest, favourite;
  uint64_t highest = 0;
  for (int i = 0; i < static_cast<int>(groups.size()); ++i) {
    if (!Serves(groups[i], question)) continue;
    if (!shortest || QueueOf(groups[i]) < QueueOf(groups[*shortest])) shortest = i;
    // Rendezvous hashing: a group that leaves moves only the prefixes that it held.
    const uint64_t score = Mix(Hash(groups[i].address, question.prefix));
    if (!favourite || score > highest) {
      favourite = i;
      highest = score;
    }
  }
  if (!shortest) return std::nullopt;
  const int64_t least = groups[*shortest].load.queued_prompt_tokens;
  const int64_t cost = groups[*favourite].load.queued_prompt_tokens - least;
  return cost <= question.prompt_tokens ? favourite : shortest;
}

uint64_t PrefixOf(const std::vector<Message>& messages) {
  uint64_t hash = Hash("");
  for (const Message& message : messages) {
    hash = Hash(message.role == Role::kUser ? "u" : "s", hash);
    for (const Part& part : message.parts) hash = Hash(part.text, hash);
    if (message.role == Role::kUser) break;
  }
  return hash;
}

int64_t EstimateTokens(const std::vector<Message>& messages) {
  constexpr int64_t kBytesPerToken = 4;
  int64_t bytes = 0;
  for (const Message& message : messages) {
    for (const Part& part : message.parts) bytes += static_cast<int64_t>(part.text.size());
  }
  return bytes / kBytesPerToken + 1;
}

}  // namespace conclave::router
