#pragma once

#include <vector>

#include "common/generation.h"
#include "common/types.h"

namespace conclave::worker {

// What happens to an agent after one of its tokens.
struct Verdict {
  enum class Kind { kContinue, kStop, kForce };
  Kind kind = Kind::kContinue;
  Finish finish = Finish::kStop;  // kStop: why.
  StopCause cause = {};           // kStop as Finish::kStop: what did it.
  int trailing =
      0;  // kStop: how many last tokens carry no text of the answer (stop token, stop string).
  std::vector<TokenId>
      force;  // kForce: these tokens come next, not sampled. Each is passed to OnToken in its turn.
  bool thinks = false;  // kContinue: the agent is in its thinking, so a copy may be asked for its
                        // answer.
};

// Steers one agent: called once for each of its tokens, in order, on the engine's thread; forced
// and fed (resumed) tokens too. So a verdict is a function of the agent's tokens alone. Implemented
// in worker/text (stop strings, thinking budget, answer budget).
class OutputPolicy {
 public:
  virtual ~OutputPolicy() = default;
  virtual Verdict OnToken(const TokenEvent& token) = 0;
};

}  // namespace conclave::worker
