#pragma once

#include <absl/status/statusor.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/confidence.h"
#include "common/family.h"

namespace conclave::router {

// All that was received of one agent, in order: tokens and the text that they released. Text is
// thinking first, answer behind it; what `kept` tokens say is the text up to the text_end of the
// last of them, so that an agent can be cut at any token.
class Transcript {
 public:
  // What a delta brought that was not there. The views are valid until the next Append.
  struct Fresh {
    int first = 0;  // Index of the first new token.
    std::string_view thinking, answer;
    std::span<const TextToken> tokens;  // Of the delta, with what it tells of them.
  };

  // Takes what is new and drops what is there (after a resumption a stream may repeat tokens).
  // What is told of tokens is not kept.
  // kDataLoss, with nothing taken, for a gap, for tokens that differ from those that are there, and
  // when text and text_end disagree.
  absl::StatusOr<Fresh> Append(const FamilyDelta& delta);

  int count() const { return static_cast<int>(tokens_.size()); }
  const std::vector<TextToken>& tokens() const { return tokens_; }
  // In the form in which a worker is told what it produced before.
  std::vector<TokenEvent> Produced() const;

  // The answer's text after `kept` tokens.
  std::string_view AnswerAt(int kept) const;
  // How many of the first `kept` tokens are thinking: those before the first one that released text
  // of the answer. (All of them while there is none, unless the agent answers at once and has
  // thought nothing.)
  int ThinkingAt(int kept, Thinking thinking) const;
  // Whether the end of thinking was put among the first `kept` tokens.
  bool ForcedAt(int kept) const;
  // Of the first `kept` tokens.
  TraceConfidence ConfidenceAt(int kept, int window) const;

 private:
  absl::Status Check(const FamilyDelta& delta) const;
  int64_t EndAt(int kept) const { return kept == 0 ? 0 : tokens_[kept - 1].text_end; }

  std::vector<TextToken> tokens_;
  std::string thinking_, answer_;
  int first_answer_ = -1;  // Index of the first token that released text of the answer.
};

}  // namespace conclave::router
