#pragma once

#include "conclave/v1/conclave.pb.h"

namespace conclave {

// Questions of every kind that a loss may meet: contemplating with votes, stop rules and synthesis,
// one agent that thinks, penalties, and each on_loss. The same number is the same request, tokens
// and texts of all agents included in its stream.
inline constexpr int kQuestions = 18;
v1::GenerateRequest Question(int number);

}  // namespace conclave
