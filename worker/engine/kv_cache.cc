#include "worker/engine/kv_cache.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace conclave::worker {

void BlockTable::Clear() {
  if (blocks_.empty()) return;
  const uint64_t release = ++cache_.releases_;
  for (const BlockId id : blocks_) cache_.Unpin(id, release);
  blocks_.clear();
}

BlockPin::BlockPin(KvCache& cache, BlockId block) : cache_(cache), block_(block) {
  cache_.Pin(block);
}

BlockPin::~BlockPin() {
  if (block_ != kNone) cache_.Unpin(block_, ++cache_.releases_);
}

absl::StatusOr<int> KvCache::UsableBlocks(const std::vector<KvPoolShape>& pools) {
  if (pools.empty()) return InvalidArgument("the group has no KV pool");
  int blocks = INT32_MAX;
  for (const KvPoolShape& pool : pools) {
    if (pool.num_blocks < 1) {
      return InvalidArgument("a KV pool has {} blocks; it needs at least 1", pool.num_blocks);
    }
    if (pool.window_tokens != 0) {
      return Unimplemented("KV pools with a sliding window ({} tokens)", pool.window_tokens);
    }
    blocks = std::min(blocks, pool.num_blocks);
  }
  return blocks;
}

KvCache::KvCache(int num_blocks) : blocks_(num_blocks) {
  free_.reserve(num_blocks);
  for (BlockId id = num_blocks - 1; id >= 0; --id) free_.push_back(id);
}

KvCache::~KvCache() = default;

bool KvCache::Match(const BlockName& name, BlockTable& table) {
  const auto found = nodes_.find(name);
  if (found == nodes_.end() || found->second->copies.empty()) return false;
  const BlockId id = found->second->copies.front();
  Pin(id);
  table.blocks_.push_back(id);
  return true;
}

bool KvCache::Grow(int count, BlockTable& table) {
  if (count > available()) return false;
  while (static_cast<int>(free_.size()) < count) EvictOne();
  for (int i = 0; i < count; ++i) {
    const BlockId id = free_.back();
    free_.pop_back();
    blocks_[id].pins = 1;
    table.blocks_.push_back(id);
  }
  return true;
}

void KvCache::Publish(const BlockTable& table, int index, const NamedBlock& block, uint64_t step) {
  CHECK(block.tokens.size() == kBlockTokens);
  const BlockId id = table[index];
  CHECK(blocks_[id].node == nullptr);
  Node& parent = index == 0 ? FindOrAddRoot(block.parent) : *blocks_[table[index - 1]].node;
  CHECK(parent.name == block.parent);
  blocks_[id].filled = step;
  std::unique_ptr<Node>& node = nodes_[block.name];
  if (node == nullptr) {
    node = std::make_unique<Node>();
    node->name = block.name;
    node->parent = &parent;
    std::copy(block.tokens.begin(), block.tokens.end(), node->tokens.begin());
    CHECK(parent.children.emplace(node->tokens, node.get()).second);
  }
  AddCopy(*node, id);
}

void KvCache::AddCopy(Node& node, BlockId id) {
  if (!node.copies.empty() && !NodeHeld(node)) {
    const BlockId old = node.copies.front();
    node.copies.clear();
    if (node.children.empty()) leaves_.erase(node.last_used);
    --evictable_;
    blocks_[old].node = nullptr;
    free_.push_back(old);
  }
  node.copies.push_back(id);
  blocks_[id].node = &node;
}

std::optional<KvCache::Part> KvCache::FindPart(const BlockName& parent,
                                               std::span<const TokenId> tokens, uint64_t step) {
  const auto found = nodes_.find(parent);
  if (found == nodes_.end() || tokens.empty()) return std::nullopt;
  const auto& children = found->second->children;
  BlockTokens wanted;
  wanted.fill(INT32_MIN);
  std::copy_n(tokens.begin(), std::min<size_t>(tokens.size(), kBlockTokens), wanted.begin());
  // In the order of their tokens, the block with the longest common start is next to the one
  // wanted.
  const auto after = children.lower_bound(wanted);
  BlockId best = -1;
  int best_tokens = 0;
  const auto consider = [&](const Node& node) {
    const auto ready = std::find_if(node.copies.begin(), node.copies.end(),
                                    [&](BlockId id) { return blocks_[id].filled < step; });
    if (ready == node.copies.end()) return;
    const auto end =
        std::mismatch(tokens.begin(), tokens.end(), node.tokens.begin(), node.tokens.end()).first;
    const int common = static_cast<int>(end - tokens.begin());
    if (common > best_tokens) {
      best_tokens = common;
      best = *ready;
    }
  };
  if (after != children.end()) consider(*after->second);
  if (after != children.begin()) consider(*std::prev(after)->second);
  if (best_tokens == 0) return std::nullopt;
  return Part{BlockPin(*this, best), best_tokens};
}

bool KvCache::Held(const BlockName& name) const {
  const auto found = nodes_.find(name);
  return found != nodes_.end() && !found->second->copies.empty() && NodeHeld(*found->second);
}

KvCache::Node& KvCache::FindOrAddRoot(const BlockName& name) {
  std::unique_ptr<Node>& root = nodes_[name];
  if (root == nullptr) {
    root = std::make_unique<Node>();
    root->name = name;
  }
  return *root;
}

void KvCache::Pin(BlockId id) {
  Block& block = blocks_[id];
  if (++block.pins > 1) return;
  CHECK(block.node != nullptr);
  --evictable_;
  if (block.node->children.empty()) leaves_.erase(block.node->last_used);
}

void KvCache::Unpin(BlockId id, uint64_t release) {
  Block& block = blocks_[id];
  CHECK(block.pins > 0);
  if (--block.pins > 0) return;
  Node* const node = block.node;
  if (node == nullptr || node->copies.size() > 1) {
    if (node != nullptr) std::erase(node->copies, id);
    block.node = nullptr;
    free_.push_back(id);
    return;
  }
  node->last_used = release;
  ++evictable_;
  if (node->children.empty()) CHECK(leaves_.emplace(release, node).second);
}

void KvCache::EvictOne() {
  CHECK(!leaves_.empty());
  Node* const node = leaves_.begin()->second;
  leaves_.erase(leaves_.begin());
  --evictable_;
  ++evictions_;
  const BlockId id = node->copies.front();
  blocks_[id].node = nullptr;
  free_.push_back(id);
  Node* const parent = node->parent;
  parent->children.erase(node->tokens);
  if (parent->children.empty()) {
    if (parent->parent == nullptr && parent->copies.empty()) {
      nodes_.erase(parent->name);
    } else if (!NodeHeld(*parent)) {
      CHECK(leaves_.emplace(parent->last_used, parent).second);
    }
  }
  nodes_.erase(node->name);
}

void KvCache::CheckConsistent(std::span<const int> pins) const {
  CHECK(pins.size() == blocks_.size());
  for (size_t id = 0; id < pins.size(); ++id) CHECK(blocks_[id].pins == pins[id]);
  std::vector<bool> seen(blocks_.size(), false);
  const auto see = [&](BlockId id) {
    CHECK(!seen[id]);
    seen[id] = true;
  };
  for (const BlockId id : free_) {
    see(id);
    CHECK(blocks_[id].pins == 0 && blocks_[id].node == nullptr);
  }
  int evictable = 0;
  size_t leaves = 0;
  for (const auto& [name, node] : nodes_) {
    CHECK(node->name == name);
    for (const auto& [tokens, child] : node->children) CHECK(child->parent == node.get());
    if (node->copies.empty()) {
      CHECK(node->parent == nullptr && !node->children.empty());
      continue;
    }
    const bool held = NodeHeld(*node);
    for (const BlockId id : node->copies) {
      see(id);
      CHECK(blocks_[id].node == node.get());
      CHECK((blocks_[id].pins > 0) == held);
    }
    CHECK(held || node->copies.size() == 1);
    if (held && !node->parent->copies.empty()) CHECK(NodeHeld(*node->parent));
    evictable += held ? 0 : 1;
    leaves += !held && node->children.empty() ? 1 : 0;
  }
  CHECK(evictable == evictable_ && leaves == leaves_.size());
  for (size_t id = 0; id < blocks_.size(); ++id) {
    CHECK(seen[id] || (blocks_[id].pins > 0 && blocks_[id].node == nullptr));
  }
}

}  // namespace conclave::worker
