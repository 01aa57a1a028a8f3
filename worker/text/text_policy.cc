#include "worker/text/text_policy.h"

#include <algorithm>
#include <iterator>
#include <string_view>
#include <utility>

#include "common/check.h"

namespace conclave::worker {
namespace {

constexpr std::string_view kLineBreaks = "\n\r";
constexpr std::string_view kWhiteSpace = " \t\n\r";
constexpr int kMaxAnswerLooks = 64;

// Length of the longest proper prefix of `word` that `text` ends with.
size_t PrefixAtEnd(std::string_view text, std::string_view word) {
  if (word.empty()) return 0;
  for (size_t n = std::min(text.size(), word.size() - 1); n > 0; --n) {
    if (text.substr(text.size() - n) == word.substr(0, n)) return n;
  }
  return 0;
}

bool Holds(const std::vector<TokenId>& ids, TokenId id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

std::vector<TokenId> SpecialsIn(const Tokenizer& tokenizer, const ThinkingMarkers& markers) {
  std::vector<TokenId> specials;
  for (const std::string* marker : {&markers.start, &markers.end, &markers.answer_start}) {
    const auto ids = tokenizer.EncodeWithSpecials(*marker);
    if (!ids.ok()) continue;  // Then none of its tokens is meant.
    std::copy_if(ids->begin(), ids->end(), std::back_inserter(specials),
                 [&](TokenId id) { return tokenizer.is_special(id); });
  }
  return specials;
}

}  // namespace

TextPolicy::TextPolicy(const Tokenizer& tokenizer, TextPolicyOptions options,
                       std::shared_ptr<TextTrace> trace)
    : tokenizer_(tokenizer),
      options_(std::move(options)),
      trace_(std::move(trace)),
      shown_(SpecialsIn(tokenizer, options_.markers)),
      decoder_(tokenizer),
      state_(options_.opening == Opening::kAnswer     ? State::kAnswer
             : options_.opening == Opening::kMayThink ? State::kMayThink
                                                      : State::kThinking),
      thought_(state_ == State::kThinking),
      forced_left_(options_.opening == Opening::kAsked ? options_.markers.force_end.size() : 0) {
  const ThinkingMarkers& markers = options_.markers;
  CHECK(state_ == State::kAnswer || (!markers.start.empty() && !markers.end.empty()));
  CHECK(state_ == State::kAnswer || options_.budget.thinking_tokens == 0 ||
        !markers.force_end.empty());
}

Verdict TextPolicy::OnToken(const TokenEvent& token) {
  piece_ = {.index = index_++, .thinking = {}, .answer = {}, .text_end = 0};
  const State before = state_;
  const bool forced = forced_left_ > 0;
  Verdict verdict;
  const bool end = Holds(options_.end_tokens, token.id);
  if (!forced && may_stop() && (end || Holds(options_.stop_tokens, token.id))) {
    verdict = StopAtToken({.kind = end ? StopCause::Kind::kEndToken : StopCause::Kind::kStopToken,
                           .token = token.id,
                           .text = {}});
  } else {
    if (may_stop())
      stop_from_ = std::min(stop_from_, held_at_ + static_cast<int64_t>(held_.size()));
    token_starts_.push_back(held_at_ + static_cast<int64_t>(held_.size()));
    Read(token.id);
    Advance();
    if (forced) {
      --forced_left_;
    } else {
      Count(before);
    }
    verdict = Judge();
  }
  piece_.text_end = text_end_;
  trace_->Put(std::move(piece_));
  while (!token_starts_.empty() && token_starts_.front() < held_at_) token_starts_.pop_front();
  return verdict;
}

void TextPolicy::Read(TokenId id) {
  held_ += Holds(shown_, id) ? decoder_.FeedText(tokenizer_.token_bytes(id)) : decoder_.Feed(id);
}

void TextPolicy::Advance() {
  if (state_ == State::kMayThink && !AdvanceOpening()) return;
  if (state_ == State::kThinking && !AdvanceThinking()) return;
  if (state_ == State::kAnswer) AdvanceAnswer();
}

// True when it is known whether the agent thinks.
bool TextPolicy::AdvanceOpening() {
  const std::string& start = options_.markers.start;
  const size_t begin = held_.find_first_not_of(kWhiteSpace);
  if (begin == std::string::npos) return false;
  const std::string_view rest = std::string_view(held_).substr(begin);
  if (rest.substr(0, start.size()) == start) {
    DropHeld(begin + start.size());
    state_ = State::kThinking;
    thought_ = true;
    return true;
  }
  const std::string& answer = options_.markers.answer_start;
  const bool answers = !answer.empty() && rest.substr(0, answer.size()) == answer;
  const auto begins = [rest](const std::string& mark) {
    return mark.size() > rest.size() && mark.compare(0, rest.size(), rest) == 0;
  };
  if (!answers && (begins(start) || begins(answer))) return false;
  if (answers) DropHeld(begin + answer.size());
  state_ = State::kAnswer;
  return true;
}

// True when the thinking has ended.
bool TextPolicy::AdvanceThinking() {
  DropLeadingBreaks();
  const std::string& end = options_.markers.end;
  const size_t marker = held_.find(end);
  const size_t border =
      marker != std::string::npos ? marker : held_.size() - PrefixAtEnd(held_, end);
  // Line breaks in front of the border belong to the end marker, if it comes.
  const std::string_view text = std::string_view(held_).substr(0, border);
  const size_t breaks = border - (text.find_last_not_of(kLineBreaks) + 1);
  ReleaseHeld(border - breaks);
  if (marker == std::string::npos) return false;
  DropHeld(breaks + end.size());
  state_ = State::kAnswer;
  at_channel_start_ = true;
  return true;
}

void TextPolicy::AdvanceAnswer() {
  if (stop_at_) return;
  DropLeadingBreaks();
  const auto from = static_cast<size_t>(
      std::clamp<int64_t>(stop_from_ - held_at_, 0, static_cast<int64_t>(held_.size())));
  const std::string_view rest = std::string_view(held_).substr(from);
  size_t border = held_.size(), stop = std::string::npos;
  for (const std::string& text : options_.stop) {
    if (text.empty()) continue;
    border = std::min(border, held_.size() - PrefixAtEnd(rest, text));
    const size_t at = held_.find(text, from);
    if (at >= stop) continue;
    stop = at;
    stop_text_ = &text;
  }
  ReleaseHeld(stop == std::string::npos ? border : stop);
  if (stop != std::string::npos) stop_at_ = held_at_;
}

void TextPolicy::DropHeld(size_t bytes) {
  held_.erase(0, bytes);
  held_at_ += static_cast<int64_t>(bytes);
}

void TextPolicy::ReleaseHeld(size_t bytes) {
  std::string& channel = state_ == State::kThinking ? piece_.thinking : piece_.answer;
  channel.append(held_, 0, bytes);
  text_end_ += static_cast<int64_t>(bytes);
  DropHeld(bytes);
}

void TextPolicy::DropLeadingBreaks() {
  if (!at_channel_start_) return;
  DropHeld(std::min(held_.find_first_not_of(kLineBreaks), held_.size()));
  at_channel_start_ = held_.empty();
}

// The agent ends here: what waits for a decision has it.
void TextPolicy::DecideAll() {
  held_ += decoder_.Flush();
  Advance();
  if (stop_at_) return;
  if (state_ == State::kMayThink) state_ = State::kAnswer;
  DropLeadingBreaks();
  ReleaseHeld(held_.size());
}

void TextPolicy::Count(State before) {
  if (before == State::kAnswer || (state_ == State::kAnswer && !thought_)) {
    ++answer_tokens_;
  } else {
    ++thinking_tokens_;
  }
}

bool TextPolicy::AnswerComplete() {
  if (!options_.stop_at_answer) return false;
  answer_ += piece_.answer;
  if (!may_stop()) return false;
  const AnswerKeySpec::Kind kind = options_.stop_at_answer->spec().kind;
  const bool by_line = kind == AnswerKeySpec::Kind::kAnswerLine;
  const bool by_brace =
      kind == AnswerKeySpec::Kind::kBoxed || kind == AnswerKeySpec::Kind::kJsonField;
  if (!by_line && !by_brace) return false;
  const char end = by_line ? '\n' : '}';
  if (piece_.answer.find(end) == std::string::npos || answer_looks_ == kMaxAnswerLooks) {
    return false;
  }
  ++answer_looks_;
  const std::string_view finished = std::string_view(answer_).substr(0, answer_.rfind(end) + 1);
  return options_.stop_at_answer->Extract(finished).has_value();
}

Verdict TextPolicy::Judge() {
  if (stop_at_) return StopAtText(0);
  if (AnswerComplete()) {
    DecideAll();
    return Stop(Finish::kStop, 0, {});
  }
  const Budget& budget = options_.budget;
  if (state_ == State::kAnswer) {
    if (budget.answer_tokens == 0 || answer_tokens_ < budget.answer_tokens) return {};
    DecideAll();
    return Stop(Finish::kLength, 0, {});
  }
  if (budget.thinking_tokens == 0 || thinking_tokens_ < budget.thinking_tokens ||
      forced_left_ > 0) {
    Verdict verdict;
    verdict.thinks = state_ == State::kThinking && forced_left_ == 0;
    return verdict;
  }
  // An agent that has not shown whether it thinks has used the budget all the same.
  state_ = State::kThinking;
  thought_ = true;
  forced_left_ = options_.markers.force_end.size();
  Verdict verdict;
  verdict.kind = Verdict::Kind::kForce;
  verdict.force = options_.markers.force_end;
  return verdict;
}

// `more`: last tokens without text that have no place in token_starts_.
Verdict TextPolicy::StopAtText(int more) const {
  return Stop(Finish::kStop, TokensFrom(*stop_at_) + more,
              {.kind = StopCause::Kind::kStopText, .token = 0, .text = *stop_text_});
}

Verdict TextPolicy::StopAtToken(StopCause cause) {
  DecideAll();
  if (stop_at_) return StopAtText(1);
  token_starts_.push_back(held_at_);
  return Stop(Finish::kStop, TokensFrom(held_at_), std::move(cause));
}

Verdict TextPolicy::Stop(Finish finish, int trailing, StopCause cause) const {
  Verdict verdict;
  verdict.kind = Verdict::Kind::kStop;
  verdict.finish = finish;
  verdict.cause = std::move(cause);
  verdict.trailing = trailing;
  return verdict;
}

int TextPolicy::TokensFrom(int64_t offset) const {
  const auto first = std::lower_bound(token_starts_.begin(), token_starts_.end(), offset);
  return static_cast<int>(token_starts_.end() - first);
}

}  // namespace conclave::worker
