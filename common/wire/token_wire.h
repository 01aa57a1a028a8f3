#pragma once

#include <absl/status/statusor.h>

#include <cstdint>
#include <string_view>
#include <vector>

#include "common/family.h"
#include "common/generation.h"
#include "conclave/v1/types.pb.h"
#include "conclave/v1/worker.pb.h"

// Tokens and what is said of them, in common terms and on the wire. FromWire and Read check all
// that a peer could get wrong: kInvalidArgument with the field's path.
namespace conclave {

v1::TokenKind ToWire(TokenKind kind);

// What a token is told with: its own text, and the likeliest at its place.
template <typename Wire>
void SetTold(const TokenEvent& token, Wire& wire) {
  for (size_t i = 0; i < token.told.size(); ++i) {
    const RatedToken& each = token.told[i];
    if (i == 0) {
      wire.set_text(each.text);
      continue;
    }
    v1::TopToken& top = *wire.add_top();
    top.set_id(each.id);
    top.set_logprob(each.logprob);
    top.set_text(each.text);
  }
}

v1::ProducedToken ToWire(const TextToken& token);
absl::StatusOr<TextToken> ReadToken(const v1::ProducedToken& wire, std::string_view path);

// REQUIRES: a cause.
v1::StopCause ToWire(const StopCause& cause);
absl::StatusOr<StopCause> FromWire(const v1::StopCause& wire, std::string_view path);

// The tokens that may end an agent, at most 16.
absl::StatusOr<std::vector<TokenId>> ReadStopTokens(
    const google::protobuf::RepeatedField<int32_t>& wire, std::string_view path);
// 0 to kMostTopLogprobs.
absl::StatusOr<int> ReadTopLogprobs(int32_t wire, std::string_view path);

}  // namespace conclave
