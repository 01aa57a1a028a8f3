#include "worker/text/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <queue>

#include "common/check.h"
#include "worker/text/utf8.h"

namespace conclave::worker {
namespace {

constexpr TokenId kNone = -1;

constexpr uint64_t PairOf(TokenId left, TokenId right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// Bytes that no UTF-8 text holds.
constexpr bool NeverInUtf8(int byte) { return byte == 0xC0 || byte == 0xC1 || byte >= 0xF5; }

}  // namespace

// The symbols of one word as a linked list, and a heap of the merges that may apply to them.
class Bpe::Word {
 public:
  Word(const Bpe& bpe, std::string_view word) : bpe_(bpe) {
    symbols_.reserve(word.size());
    if (bpe.symbols_ == Symbols::kBytes) {
      for (const char c : word) Add(bpe.by_byte_[static_cast<unsigned char>(c)]);
    } else {
      AddCharacters(word);
    }
    if (!symbols_.empty()) symbols_.back().next = kNone;
    for (int i = 0; i + 1 < static_cast<int>(symbols_.size()); ++i) Offer(i);
  }

  // Returns how many merges were tried.
  size_t MergeAll() {
    size_t tried = 0;
    while (!heap_.empty()) {
      const Candidate best = heap_.top();
      heap_.pop();
      ++tried;
      Symbol& left = symbols_[static_cast<size_t>(best.at)];
      // Stale: one of the two has merged with something else since.
      if (left.id == kNone || left.next == kNone) continue;
      Symbol& right = symbols_[static_cast<size_t>(left.next)];
      if (PairOf(left.id, right.id) != best.pair) continue;
      left.id = best.merged;
      right.id = kNone;
      left.next = right.next;
      if (left.next != kNone) symbols_[static_cast<size_t>(left.next)].previous = best.at;
      if (left.previous != kNone) Offer(left.previous);
      if (left.next != kNone) Offer(best.at);
    }
    return tried;
  }

  template <typename Visit>
  void ForEach(Visit visit) const {
    for (int i = symbols_.empty() ? kNone : 0; i != kNone;) {
      const Symbol& symbol = symbols_[static_cast<size_t>(i)];
      visit(symbol.id);
      i = symbol.next;
    }
  }

 private:
  struct Symbol {
    TokenId id = kNone;  // kNone: merged into its left neighbour.
    int previous = kNone, next = kNone;
  };
  struct Candidate {
    int32_t rank;
    int at;
    TokenId merged;
    uint64_t pair;
    // The queue's top is the greatest: lowest rank, then leftmost.
    bool operator<(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };

  void Add(TokenId id) {
    if (id == kNone) return;
    const int at = static_cast<int>(symbols_.size());
    symbols_.push_back({id, at - 1, at + 1});
  }

  bool AddBytes(std::string_view character) {
    const auto token = [&](char c) { return bpe_.by_byte_[static_cast<unsigned char>(c)]; };
    if (!bpe_.unknown_.byte_fallback || std::any_of(character.begin(), character.end(),
                                                    [&](char c) { return token(c) == kNone; })) {
      return false;
    }
    for (const char c : character) Add(token(c));
    return true;
  }

  void AddCharacters(std::string_view word) {
    bool unknown = false;  // Wait: the next may belong to it.
    const auto settle = [&] {
      if (std::exchange(unknown, false)) Add(bpe_.unknown_.token);
    };
    while (!word.empty()) {
      const std::string_view character = word.substr(0, ReadUtf8(word).bytes);
      word.remove_prefix(character.size());
      const TokenId id = bpe_.Find(character);
      if (id != kNone && !bpe_.withheld_[static_cast<size_t>(id)]) {
        settle();
        Add(id);
      } else if (!AddBytes(character)) {
        if (!bpe_.unknown_.fuse) settle();
        unknown = true;
      }
    }
    settle();
  }

  void Offer(int at) {
    const Symbol& left = symbols_[static_cast<size_t>(at)];
    const uint64_t pair = PairOf(left.id, symbols_[static_cast<size_t>(left.next)].id);
    const auto merge = bpe_.merges_.find(pair);
    if (merge == bpe_.merges_.end()) return;
    heap_.push({merge->second.rank, at, merge->second.id, pair});
  }

  const Bpe& bpe_;
  std::vector<Symbol> symbols_;
  std::priority_queue<Candidate> heap_;
};

void Bpe::SetVocabulary(std::vector<std::string> bytes, Symbols symbols) {
  bytes_ = std::move(bytes);
  symbols_ = symbols;
  withheld_.assign(bytes_.size(), false);
  by_bytes_.reserve(bytes_.size());
  for (size_t id = 0; id < bytes_.size(); ++id) {
    const std::string& token = bytes_[id];
    if (!token.empty()) by_bytes_.try_emplace({token.data(), token.size()}, static_cast<int>(id));
  }
  for (int byte = 0; byte < 256; ++byte) {
    const std::string token = symbols == Symbols::kBytes ? std::string(1, static_cast<char>(byte))
                                                         : fmt::format("<0x{:02X}>", byte);
    by_byte_[static_cast<size_t>(byte)] = Find(token);
  }
}

int Bpe::MissingByte() const {
  for (int byte = 0; byte < 256; ++byte) {
    if (by_byte_[static_cast<size_t>(byte)] == kNone && !NeverInUtf8(byte)) return byte;
  }
  return -1;
}

void Bpe::AddMerge(TokenId left, TokenId right, TokenId merged) {
  const auto rank = static_cast<int32_t>(merges_.size());
  // A pair that is listed twice keeps its better rank.
  if (!merges_.try_emplace(PairOf(left, right), Merge{rank, merged}).second) return;
  parts_.try_emplace(merged, left, right);
}

void Bpe::Withhold(TokenId id) { withheld_[static_cast<size_t>(id)] = true; }

void Bpe::Emit(TokenId id, std::vector<TokenId>& out) const {
  const auto parts = withheld_[static_cast<size_t>(id)] ? parts_.find(id) : parts_.end();
  if (parts == parts_.end()) {
    out.push_back(id);
    return;
  }
  Emit(parts->second.first, out);
  Emit(parts->second.second, out);
}

size_t Bpe::Encode(std::string_view word, std::vector<TokenId>& out) const {
  if (whole_words_first_) {
    const TokenId whole = Find(word);
    if (whole != kNone && !withheld_[static_cast<size_t>(whole)]) {
      out.push_back(whole);
      return 0;
    }
  }
  Word symbols(*this, word);
  const size_t tried = symbols.MergeAll();
  symbols.ForEach([&](TokenId id) { Emit(id, out); });
  return tried;
}

std::string_view Bpe::bytes(TokenId id) const {
  return id >= 0 && id < size() ? std::string_view(bytes_[static_cast<size_t>(id)])
                                : std::string_view();
}

TokenId Bpe::Find(std::string_view bytes) const {
  const auto found = by_bytes_.find({bytes.data(), bytes.size()});
  return found == by_bytes_.end() ? kNone : found->second;
}

}  // namespace conclave::worker
