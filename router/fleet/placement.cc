#include "router/fleet/placement.h"

#include <algorithm>
#include <string_view>
#include <tuple>

#include "router/contemplation/width.h"

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
  return question.fingerprint.empty() || model.fingerprint == question.fingerprint;
}

bool HasRoom(const GroupView& group, const PlacementQuestion& question) {
  const int most = std::max(1, question.agents);
  if (group.load.credits >= most) return true;
  if (question.least < 1) return false;
  const int places = group.description->model.max_agents;
  const int running = group.load.agents_running;
  const double load = LoadLevel(places > 0 ? places : group.load.credits + running, running);
  return group.load.credits >= WidthAt(load, std::min(question.least, most), most, 0.5);
}

auto QueueOf(const GroupView& group) {
  return std::tuple(group.load.queued_prompt_tokens, group.load.agents_running);
}

// The best of the groups that were offered.
class Choice {
 public:
  Choice(const std::vector<const GroupView*>& groups, const PlacementQuestion& question)
      : groups_(groups), question_(question), salt_(Mix(question.prefix)) {}

  void Offer(int group) {
    const GroupView& view = *groups_[static_cast<size_t>(group)];
    if (!shortest_ || QueueOf(view) < QueueOf(At(*shortest_))) shortest_ = group;
    // Rendezvous hashing: a group that leaves moves only the prefixes that it held.
    const uint64_t score = Mix(view.address_hash ^ salt_);
    if (!favourite_ || score > highest_) {
      favourite_ = group;
      highest_ = score;
    }
  }

  std::optional<int> Best() const {
    if (!shortest_) return std::nullopt;
    const int64_t cost =
        At(*favourite_).load.queued_prompt_tokens - At(*shortest_).load.queued_prompt_tokens;
    return cost <= question_.prompt_tokens ? favourite_ : shortest_;
  }

 private:
  const GroupView& At(int group) const { return *groups_[static_cast<size_t>(group)]; }

  const std::vector<const GroupView*>& groups_;
  const PlacementQuestion& question_;
  const uint64_t salt_;
  std::optional<int> shortest_, favourite_;
  uint64_t highest_ = 0;
};

}  // namespace

std::optional<int> Place(const std::vector<const GroupView*>& groups,
                         const PlacementQuestion& question, absl::Time now) {
  Choice awake(groups, question), resting(groups, question);
  bool all_rest = true;
  for (int i = 0; i < static_cast<int>(groups.size()); ++i) {
    const GroupView& group = *groups[static_cast<size_t>(i)];
    if (!Serves(group, question)) continue;
    const bool rests = group.rests_until > now;
    all_rest = all_rest && rests;
    if (HasRoom(group, question)) (rests ? resting : awake).Offer(i);
  }
  return all_rest ? resting.Best() : awake.Best();
}

bool CouldTake(const GroupView& group, const PlacementQuestion& question) {
  return Serves(group, question) && HasRoom(group, question);
}

uint64_t HashOfAddress(const std::string& address) { return Mix(Hash(address)); }

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
