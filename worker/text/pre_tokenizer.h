#pragma once

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <deque>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "worker/text/split_pattern.h"

namespace conclave::worker {

// The words of one text: what a model encodes each for itself.
struct Words {
  std::vector<std::string_view> words;  // Into the text, or into `changed`.
  std::deque<std::string> changed;      // Words that are not as in the text.
  size_t changed_bytes = 0;

  // Whether so many bytes more may be changed. kResourceExhausted: too many together.
  absl::Status Reserve(size_t bytes);
};

// How a text is cut into words: the member "pre_tokenizer" of a tokenizer.json. Immutable: any
// thread.
class PreTokenizer {
 public:
  // Null: a text is one word. kInvalidArgument, or kUnimplemented for a kind that is not known;
  // both name the JSON path.
  static absl::StatusOr<PreTokenizer> Parse(const nlohmann::json& node);

  // Words are bytes that the vocabulary spells (GPT-2's alphabet), not characters.
  bool byte_level() const { return byte_level_; }
  // `at_start`: the text stands at the very beginning of all. REQUIRES: valid UTF-8, not empty.
  // kResourceExhausted: the patterns cost too much, or marks make the text too long.
  absl::Status Cut(std::string_view text, bool at_start, Words& words) const;

 private:
  enum class Scheme { kNever, kFirst, kAlways };  // Which words get `mark` in front.
  struct Step {
    std::optional<SplitPattern> split;
    Scheme scheme = Scheme::kNever;
    std::string mark;           // In front of words that do not begin with it.
    bool marks_spaces = false;  // Spaces become `mark`, too (Metaspace).
  };
  struct Reader;

  absl::Status Run(const Step& step, bool at_start, MatchBudget& budget, Words& words) const;

  std::vector<Step> steps_;
  bool byte_level_ = false;
};

}  // namespace conclave::worker
