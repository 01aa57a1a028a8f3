#pragma once

#include <absl/status/statusor.h>

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "worker/engine/block_name.h"
#include "worker/step.h"

namespace conclave::worker {

class KvCache;

// The blocks of one sequence, in order of position. Each is pinned: it is neither evicted nor given
// to another. The destructor unpins. The cache must outlive it.
class BlockTable {
 public:
  explicit BlockTable(KvCache& cache) : cache_(cache) {}
  ~BlockTable() { Clear(); }
  BlockTable(const BlockTable&) = delete;
  BlockTable& operator=(const BlockTable&) = delete;

  // Unpins all. Blocks with a name stay in the tree until their room is needed.
  void Clear();

  int size() const { return static_cast<int>(blocks_.size()); }
  BlockId operator[](int index) const { return blocks_[index]; }
  BlockId back() const { return blocks_.back(); }

 private:
  friend class KvCache;

  KvCache& cache_;
  std::vector<BlockId> blocks_;
};

// One block kept from eviction, as the source of a copy.
class BlockPin {
 public:
  BlockPin(KvCache& cache, BlockId block);
  ~BlockPin();
  BlockPin(BlockPin&& other) noexcept : cache_(other.cache_), block_(other.block_) {
    other.block_ = kNone;
  }
  BlockPin& operator=(BlockPin&&) = delete;

  BlockId block() const { return block_; }

 private:
  static constexpr BlockId kNone = -1;

  KvCache& cache_;
  BlockId block_;
};

// Which blocks hold which tokens. Bookkeeping only: no KV is touched here. One thread.
//
// A published block has a name and stands in the radix tree: names lead to nodes, nodes to their
// parents. A node that several sequences computed apart has several copies; all but one go when
// nobody pins them. Blocks that nobody pins stay in the tree, and are evicted when room is needed:
// those without children first, among them the least recently used.
// Invariant: whoever pins a node's block pins one of each ancestor. So all that is not pinned can
// be evicted, leaf by leaf.
//
// Layers of several kinds have a pool each. All kinds must see every position: then block i of each
// pool belongs together, and one bookkeeping serves all.
class KvCache {
 public:
  // The number of blocks that `pools` offer to sequences. kInvalidArgument: no pool, or one without
  // blocks. kUnimplemented: layers with a sliding window.
  static absl::StatusOr<int> UsableBlocks(const std::vector<KvPoolShape>& pools);

  explicit KvCache(int num_blocks);
  ~KvCache();
  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  // Appends the block of that name to the table; false when the tree has none.
  bool Match(const BlockName& name, BlockTable& table);

  // Appends `count` blocks without content; evicts for them. False, and nothing changed, when there
  // is no room.
  bool Grow(int count, BlockTable& table);

  struct NamedBlock {
    BlockName parent, name;
    std::span<const TokenId> tokens;  // kBlockTokens of them.
  };
  // Lets others find the table's block `index`, which the plan `step` or an earlier one fills.
  // REQUIRES: the blocks before it are published, and it is not.
  void Publish(const BlockTable& table, int index, const NamedBlock& block, uint64_t step);

  // A block behind `parent` that starts with some of `tokens`: the longest such start, in a block
  // filled before plan `step`. Its content can be copied.
  struct Part {
    BlockPin source;
    int tokens = 0;  // At least 1.
  };
  std::optional<Part> FindPart(const BlockName& parent, std::span<const TokenId> tokens,
                               uint64_t step);

  // Whether a block of that name is pinned: matching it then takes no room.
  bool Held(const BlockName& name) const;

  int total() const { return static_cast<int>(blocks_.size()); }
  // Blocks that Grow could give: free ones, and those in the tree that nobody pins.
  int available() const { return static_cast<int>(free_.size()) + evictable_; }
  int in_tree_unpinned() const { return evictable_; }
  // Blocks of the tree, ever, whose content was given up for others.
  int64_t evictions() const { return evictions_; }

  // Aborts when an invariant is broken, or a block has other pins than `pins` says, by block. Walks
  // over everything: for tests.
  void CheckConsistent(std::span<const int> pins) const;

 private:
  friend class BlockTable;
  friend class BlockPin;

  using BlockTokens = std::array<TokenId, kBlockTokens>;

  // One name. A root, in front of all first blocks of a salt, has neither parent nor copies.
  struct Node {
    BlockName name;
    Node* parent = nullptr;
    BlockTokens tokens{};
    std::map<BlockTokens, Node*> children;
    std::vector<BlockId> copies;
    uint64_t last_used = 0;  // Of a node that is not held: the release that made it so.
  };
  struct Block {
    int pins = 0;
    Node* node = nullptr;  // Null: no name.
    uint64_t filled = 0;   // The plan that completed it.
  };

  bool NodeHeld(const Node& node) const { return blocks_[node.copies.front()].pins > 0; }
  Node& FindOrAddRoot(const BlockName& name);
  void Pin(BlockId id);
  void Unpin(BlockId id, uint64_t release);
  void AddCopy(Node& node, BlockId id);
  void EvictOne();

  std::vector<Block> blocks_;
  std::vector<BlockId> free_;
  std::unordered_map<BlockName, std::unique_ptr<Node>, BlockNameHash> nodes_;
  std::map<uint64_t, Node*> leaves_;  // Not held and without children, by last_used.
  int evictable_ = 0;                 // Nodes that are not held.
  uint64_t releases_ = 0;
  int64_t evictions_ = 0;
};

}  // namespace conclave::worker
