#include "common/wire/token_wire.h"

#include <cmath>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "common/wire/message_wire.h"

namespace conclave {
namespace {

constexpr int kMostStopTokens = 16;
constexpr size_t kMostStopBytes = 256;

absl::StatusOr<TokenKind> ReadKind(v1::TokenKind kind, std::string_view path) {
  if (kind == v1::TOKEN_KIND_SAMPLED) return TokenKind::kSampled;
  if (kind == v1::TOKEN_KIND_FORCED) return TokenKind::kForced;
  return BadField(path, fmt::format("{} is not a kind", static_cast<int>(kind)));
}

absl::Status CheckText(const std::string& text, std::string_view path) {
  if (text.size() <= kMostTokenText) return absl::OkStatus();
  return BadField(path, fmt::format("has a token's text of {} bytes; the limit is {}", text.size(),
                                    kMostTokenText));
}

// A token that is told has a text, or says nothing but has others beside it.
absl::Status ReadTold(const v1::ProducedToken& wire, std::string_view path, TokenEvent& token) {
  if (wire.top_size() > kMostTopLogprobs) {
    return BadField(path, fmt::format("has {} likeliest tokens; the limit is {}", wire.top_size(),
                                      kMostTopLogprobs));
  }
  RETURN_IF_ERROR(CheckText(wire.text(), path));
  if (wire.text().empty() && wire.top().empty()) return absl::OkStatus();
  token.told.reserve(static_cast<size_t>(wire.top_size()) + 1);
  token.told.push_back({.id = token.id, .logprob = token.logprob, .text = wire.text()});
  for (const v1::TopToken& top : wire.top()) {
    if (top.id() < 0) return BadField(path, fmt::format("top id {} is negative", top.id()));
    if (std::isnan(top.logprob())) {
      return BadField(path, "has a log-probability that is not a number");
    }
    RETURN_IF_ERROR(CheckText(top.text(), path));
    token.told.push_back({.id = top.id(), .logprob = top.logprob(), .text = top.text()});
  }
  return absl::OkStatus();
}

}  // namespace

v1::TokenKind ToWire(TokenKind kind) {
  return kind == TokenKind::kForced ? v1::TOKEN_KIND_FORCED : v1::TOKEN_KIND_SAMPLED;
}

v1::ProducedToken ToWire(const TextToken& token) {
  v1::ProducedToken wire;
  wire.set_id(token.token.id);
  wire.set_logprob(token.token.logprob);
  wire.set_top_logprob_mean(token.token.top_logprob_mean);
  wire.set_kind(ToWire(token.token.kind));
  wire.set_text_end(token.text_end);
  SetTold(token.token, wire);
  return wire;
}

absl::StatusOr<TextToken> ReadToken(const v1::ProducedToken& wire, std::string_view path) {
  if (wire.id() < 0) return BadField(path, fmt::format("id {} is negative", wire.id()));
  if (std::isnan(wire.logprob()) || std::isnan(wire.top_logprob_mean())) {
    return BadField(path, "has a log-probability that is not a number");
  }
  if (wire.text_end() < 0)
    return BadField(path, fmt::format("text_end {} is negative", wire.text_end()));
  TextToken token;
  ASSIGN_OR_RETURN(token.token.kind, ReadKind(wire.kind(), path));
  token.token.id = wire.id();
  token.token.logprob = wire.logprob();
  token.token.top_logprob_mean = wire.top_logprob_mean();
  token.text_end = wire.text_end();
  RETURN_IF_ERROR(ReadTold(wire, path, token.token));
  return token;
}

v1::StopCause ToWire(const StopCause& cause) {
  v1::StopCause wire;
  switch (cause.kind) {
    case StopCause::Kind::kEndToken:
      wire.set_end_token(cause.token);
      return wire;
    case StopCause::Kind::kStopToken:
      wire.set_stop_token(cause.token);
      return wire;
    case StopCause::Kind::kStopText:
      wire.set_stop_text(cause.text);
      return wire;
    case StopCause::Kind::kNone:
      break;
  }
  CHECK(false);
}

absl::StatusOr<StopCause> FromWire(const v1::StopCause& wire, std::string_view path) {
  StopCause cause;
  switch (wire.cause_case()) {
    case v1::StopCause::kEndToken:
      cause = {.kind = StopCause::Kind::kEndToken, .token = wire.end_token(), .text = {}};
      break;
    case v1::StopCause::kStopToken:
      cause = {.kind = StopCause::Kind::kStopToken, .token = wire.stop_token(), .text = {}};
      break;
    case v1::StopCause::kStopText:
      cause = {.kind = StopCause::Kind::kStopText, .token = 0, .text = wire.stop_text()};
      break;
    case v1::StopCause::CAUSE_NOT_SET:
      break;  // A cause that a later version knows: it informs, nothing hangs on it.
  }
  if (cause.token < 0) return BadField(path, fmt::format("token {} is negative", cause.token));
  if (cause.text.size() > kMostStopBytes) {
    return BadField(path, fmt::format("has a text of {} bytes; the limit is {}", cause.text.size(),
                                      kMostStopBytes));
  }
  return cause;
}

absl::StatusOr<std::vector<TokenId>> ReadStopTokens(
    const google::protobuf::RepeatedField<int32_t>& wire, std::string_view path) {
  if (wire.size() > kMostStopTokens) {
    return BadField(path,
                    fmt::format("has {} tokens; the limit is {}", wire.size(), kMostStopTokens));
  }
  for (int i = 0; i < wire.size(); ++i) {
    if (wire[i] < 0)
      return BadField(fmt::format("{}[{}]", path, i), fmt::format("is {}, no token id", wire[i]));
  }
  return std::vector<TokenId>(wire.begin(), wire.end());
}

absl::StatusOr<int> ReadTopLogprobs(int32_t wire, std::string_view path) {
  if (wire >= 0 && wire <= kMostTopLogprobs) return wire;
  return BadField(path, fmt::format("is {}; it can be 0 to {}", wire, kMostTopLogprobs));
}

}  // namespace conclave
