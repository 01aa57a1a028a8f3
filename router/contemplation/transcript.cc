#include "router/contemplation/transcript.h"

#include <algorithm>

#include "common/status.h"

namespace conclave::router {

absl::Status Transcript::Check(const FamilyDelta& delta) const {
  if (delta.first < 0 || delta.first > count()) {
    return DataLoss("a delta begins at token {}; {} are there", delta.first, count());
  }
  for (size_t i = 0; i < delta.tokens.size(); ++i) {
    const size_t index = static_cast<size_t>(delta.first) + i;
    if (index < tokens_.size() && (tokens_[index].token.id != delta.tokens[i].token.id ||
                                   tokens_[index].text_end != delta.tokens[i].text_end)) {
      return DataLoss("token {} came again and differs", index);
    }
  }
  int64_t end = EndAt(delta.first);
  const int64_t begin = end;
  for (const TextToken& token : delta.tokens) {
    if (token.text_end < end)
      return DataLoss("text_end goes back from {} to {}", end, token.text_end);
    end = token.text_end;
  }
  const auto brought = static_cast<int64_t>(delta.thinking.size() + delta.answer.size());
  if (end - begin != brought) {
    return DataLoss("a delta brings {} bytes of text; its tokens say {}", brought, end - begin);
  }
  return absl::OkStatus();
}

absl::StatusOr<Transcript::Fresh> Transcript::Append(const FamilyDelta& delta) {
  RETURN_IF_ERROR(Check(delta));
  const size_t known =
      std::min(tokens_.size() - static_cast<size_t>(delta.first), delta.tokens.size());
  const size_t before = tokens_.size(), thought = thinking_.size(), answered = answer_.size();
  if (known == delta.tokens.size())
    return Fresh{.first = count(), .thinking = {}, .answer = {}, .tokens = {}};

  const auto skipped = static_cast<size_t>(EndAt(count()) - EndAt(delta.first));
  const size_t skip_thinking = std::min(skipped, delta.thinking.size());
  if (answered > 0 && skip_thinking < delta.thinking.size()) {
    return DataLoss("thinking came behind the answer's beginning");
  }
  thinking_ += std::string_view(delta.thinking).substr(skip_thinking);
  answer_ += std::string_view(delta.answer).substr(skipped - skip_thinking);
  const auto tokens = std::span<const TextToken>(delta.tokens).subspan(known);
  for (const TextToken& token : tokens) {
    const TokenEvent& event = token.token;
    tokens_.push_back({.token = {.id = event.id,
                                 .logprob = event.logprob,
                                 .top_logprob_mean = event.top_logprob_mean,
                                 .kind = event.kind},
                       .text_end = token.text_end});
  }
  if (first_answer_ < 0 && !answer_.empty()) {
    const auto thinking_end = static_cast<int64_t>(thinking_.size());
    const auto first = std::find_if(
        tokens_.begin() + static_cast<std::ptrdiff_t>(before), tokens_.end(),
        [thinking_end](const TextToken& token) { return token.text_end > thinking_end; });
    first_answer_ = static_cast<int>(first - tokens_.begin());
  }
  return Fresh{.first = static_cast<int>(before),
               .thinking = std::string_view(thinking_).substr(thought),
               .answer = std::string_view(answer_).substr(answered),
               .tokens = tokens};
}

std::vector<TokenEvent> Transcript::Produced() const {
  std::vector<TokenEvent> produced;
  produced.reserve(tokens_.size());
  for (const TextToken& token : tokens_) produced.push_back(token.token);
  return produced;
}

std::string_view Transcript::AnswerAt(int kept) const {
  const auto thought = static_cast<int64_t>(thinking_.size());
  const int64_t bytes = std::max<int64_t>(0, EndAt(kept) - thought);
  return std::string_view(answer_).substr(0, static_cast<size_t>(bytes));
}

int Transcript::ThinkingAt(int kept, Thinking thinking) const {
  if (thinking == Thinking::kOff && thinking_.empty()) return 0;
  return first_answer_ < 0 ? kept : std::min(kept, first_answer_);
}

bool Transcript::ForcedAt(int kept) const {
  return std::any_of(tokens_.begin(), tokens_.begin() + kept,
                     [](const TextToken& token) { return token.token.kind == TokenKind::kForced; });
}

TraceConfidence Transcript::ConfidenceAt(int kept, int window) const {
  TraceConfidence confidence(window);
  for (int i = 0; i < kept; ++i) confidence.Add(tokens_[static_cast<size_t>(i)].token);
  return confidence;
}

}  // namespace conclave::router
