#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/answer/answer_key.h"
#include "common/generation.h"
#include "worker/engine/output_policy.h"
#include "worker/text/text_trace.h"
#include "worker/text/tokenizer.h"

namespace conclave::worker {

// How a model marks its thinking in its text.
struct ThinkingMarkers {
  std::string start;               // "<think>". Empty: the model does not think.
  std::string end;                 // "</think>"
  std::vector<TokenId> force_end;  // Put there when the thinking budget is used up. Its text holds
                                   // `end`.
  std::string answer_start = {};   // What may stand in front of an answer without thinking, as
                                   // "to=user<|message|>".
};

// Where an agent stands when its prompt ends.
enum class Opening : uint8_t {
  kAnswer,    // All that follows is answer.
  kMayThink,  // Thinks if the first thing it writes, after any white space, is the start marker;
              // else it answers, after the answer's mark if that is there.
  kThinking,  // The prompt has opened the thinking.
  kAsked,     // In its thinking, and force_end comes next, so that it answers.
};

struct TextPolicyOptions {
  ThinkingMarkers markers;
  Opening opening = Opening::kAnswer;
  Budget budget;
  std::vector<TokenId> end_tokens;   // The model's own.
  std::vector<TokenId> stop_tokens;  // The request's.
  std::vector<std::string>
      stop;  // Texts of the answer that end the agent; they are not part of it.
  std::optional<AnswerKey> stop_at_answer;  // Ends the agent when its answer is complete: a closed
                                            // box or object, a finished answer line. Other kinds
                                            // of keys never end it. Looked at 64 times at most.
};

// Steers one agent by what its tokens say, and tells its text apart. All of it is a function of the
// tokens alone:
//  - Text is thinking up to the end marker and answer behind it; the markers belong to neither.
//    Line breaks (\n, \r) behind a marker, before the end marker, and at the start of the answer
//    belong to neither, too. Markers may be split over tokens, or be special tokens.
//  - A byte is released as soon as no later token can change its channel or drop it: half a
//    character, a possible marker or stop text, and line breaks of the thinking wait.
//  - Thinking tokens are all tokens up to the one that completes the end marker (of an agent that
//    turns out not to think: up to the one that shows it); the others are the answer's. The tokens
//    that are forced here count as neither.
//  - Stop texts are looked for in the answer only, end and stop tokens everywhere; these have no
//    text. Neither ends the agent before budget.min_tokens, nor does a stop text that begins in the
//    text of those tokens.
//  - When the policy itself ends the agent, what waits is decided: a possible stop text is text
//    after all, half a character is U+FFFD. At an end that comes from outside it stays unreleased.
// Used by one thread, the engine's. `tokenizer` must outlive it.
class TextPolicy : public OutputPolicy {
 public:
  TextPolicy(const Tokenizer& tokenizer, TextPolicyOptions options,
             std::shared_ptr<TextTrace> trace);

  // Puts one piece into the trace for each call. REQUIRES: the policy has not stopped yet.
  Verdict OnToken(const TokenEvent& token) override;

 private:
  enum class State : uint8_t { kMayThink, kThinking, kAnswer };

  void Read(TokenId id);
  void Advance();
  bool AdvanceOpening();
  bool AdvanceThinking();
  void AdvanceAnswer();
  void DropHeld(size_t bytes);
  void ReleaseHeld(size_t bytes);
  void DropLeadingBreaks();
  void DecideAll();
  void Count(State before);
  bool AnswerComplete();
  Verdict Judge();
  Verdict StopAtText(int more) const;
  Verdict StopAtToken(StopCause cause);
  Verdict Stop(Finish finish, int trailing, StopCause cause) const;
  // Whether tokens are behind the minimum.
  bool may_stop() const { return piece_.index >= options_.budget.min_tokens; }
  int TokensFrom(int64_t offset) const;

  const Tokenizer& tokenizer_;
  const TextPolicyOptions options_;
  const std::shared_ptr<TextTrace> trace_;  // Shared with the sink: see TextTrace.
  std::vector<TokenId> shown_;  // Special tokens within markers: there they count by their text.
  IncrementalDecoder decoder_;
  State state_;
  std::string held_;                // Text that is decoded and not yet decided.
  int64_t held_at_ = 0;             // Offset of held_ in all decoded text.
  bool at_channel_start_ = true;    // No byte of this channel yet: line breaks are dropped.
  bool thought_ = false;            // Has been in kThinking.
  std::optional<int64_t> stop_at_;  // Offset in all decoded text at which a stop text begins.
  const std::string* stop_text_ = nullptr;  // Which one, of options_.
  int64_t stop_from_ = INT64_MAX;           // Stop texts begin here at the earliest.
  std::deque<int64_t> token_starts_;        // Offsets of the texts of the last tokens.
  TextPiece piece_;                         // Of the current token.
  std::string answer_;                      // Kept only for stop_at_answer.
  int index_ = 0;                           // Tokens seen.
  int thinking_tokens_ = 0, answer_tokens_ = 0;
  size_t forced_left_ = 0;  // Forced tokens that have not come back yet.
  int answer_looks_ = 0;    // How often the answer key was asked: bounded.
  int64_t text_end_ = 0;
};

}  // namespace conclave::worker
