#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace conclave::worker {

// Cuts a text where a regular expression matches: the Split step of a tokenizer.json. Compiled by
// PCRE2 (Unicode properties, just-in-time code), matched under limits. Immutable: any thread.
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

  // kInvalidArgument: not a valid expression.
  static absl::StatusOr<SplitPattern> Compile(const std::string& pattern, Options options);

  // The whole text in order, in pieces that are matches or lie between them. Never an empty one.
  struct Piece {
    std::string_view text;
    bool matched = false;
  };
  // Appends them. REQUIRES: valid UTF-8. kResourceExhausted: matching costs too much.
  absl::Status Cut(std::string_view text, std::vector<Piece>& pieces) const;

  // Appends the pieces of `text`, which must be valid UTF-8, in order; never an empty one.
  // kResourceExhausted: matching costs too much.
  absl::Status Split(std::string_view text, std::vector<std::string_view>& pieces) const;

 private:
  struct Code;
  SplitPattern(std::shared_ptr<const Code> code, Options options)
      : code_(std::move(code)), options_(options) {}

  std::shared_ptr<const Code> code_;  // Shared by copies: compiled once, never changed.
  Options options_;
};

}  // namespace conclave::worker
