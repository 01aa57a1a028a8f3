#pragma once

#include <absl/status/statusor.h>

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "worker/text/marked_string.h"
#include "worker/text/split_pattern.h"

namespace conclave::worker {

// What is done to a text before it is cut into words: the member "normalizer" of a tokenizer.json.
// Immutable: any thread.
class Normalizer {
 public:
  // Most bytes that a text may grow to.
  static constexpr size_t kMaxBytes = size_t{16} << 20;

  // Null: does nothing. kInvalidArgument, or kUnimplemented for a kind that is not known; both
  // name the JSON path.
  static absl::StatusOr<Normalizer> Parse(const nlohmann::json& node);

  bool empty() const { return steps_.empty(); }
  // Marks stay: what is put in front is of the first byte's author, and what replaces a text is the
  // template's only if all of that text was. Unicode forms are made of each author's stretch for
  // itself, so that a caller's character cannot change a template's.
  // kResourceExhausted: more than kMaxBytes, or a pattern costs too much.
  absl::StatusOr<MarkedString> Apply(MarkedString text) const;

 private:
  enum class Kind {
    kNfc,
    kNfd,
    kNfkc,
    kNfkd,
    kLowercase,
    kStripAccents,
    kStrip,
    kPrepend,
    kReplace
  };
  struct Step {
    Kind kind = Kind::kNfc;
    std::string content;                  // kPrepend, kReplace.
    std::optional<SplitPattern> pattern;  // kReplace.
    bool left = false, right = false;     // kStrip.
  };
  struct Reader;

  static absl::StatusOr<MarkedString> Run(const Step& step, MarkedString text);

  std::vector<Step> steps_;
};

}  // namespace conclave::worker
