#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::worker {

// What matching may still cost: steps of backtracking and characters gone over. One for a whole
// text, whatever the number of patterns and pieces: what all of it takes is then linear in the
// text.
class MatchBudget {
 public:
  // For a text of so many bytes.
  explicit MatchBudget(size_t text_bytes);

  size_t left() const { return left_; }
  void Spend(size_t steps) { left_ -= steps < left_ ? steps : left_; }

 private:
  size_t left_;
};

// Cuts a text where a regular expression matches: the Split step of a tokenizer.json. Compiled by
// PCRE2 (Unicode properties, just-in-time code). The expression may be a stranger's: whatever it
// is, matching ends soon, and with the same result everywhere. Immutable: any thread.
class SplitPattern {
 public:
  // What becomes of the separators: pieces of their own, gone, part of the piece before or behind
  // them, or one piece with the separators beside them.
  enum class Behavior { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };

  struct Options {
    bool literal = false;  // The pattern is a text, not an expression.
    bool invert = false;   // Pieces and separators change places.
    Behavior behavior = Behavior::kIsolated;
  };

  // kInvalidArgument: not a valid expression, or with a repetition or a look behind beyond the
  // limits. kUnimplemented: it refers back to a group. Names the pattern.
  static absl::StatusOr<SplitPattern> Compile(const std::string& pattern, Options options);

  // The whole text in order, in pieces that are matches or lie between them. Never an empty one.
  struct Piece {
    std::string_view text;
    bool matched = false;
  };
  // Appends them. REQUIRES: valid UTF-8. kResourceExhausted: the budget is spent; names the
  // pattern.
  absl::Status Cut(std::string_view text, MatchBudget& budget, std::vector<Piece>& pieces) const;

  // Appends the pieces of `text`, which must be valid UTF-8, in order; never an empty one.
  // kResourceExhausted as above.
  absl::Status Split(std::string_view text, MatchBudget& budget,
                     std::vector<std::string_view>& pieces) const;

 private:
  struct Code;
  SplitPattern(std::shared_ptr<const Code> code, Options options)
      : code_(std::move(code)), options_(options) {}

  std::shared_ptr<const Code> code_;  // Shared by copies: compiled once, never changed.
  Options options_;
};

}  // namespace conclave::worker
