#pragma once

#include <absl/time/time.h>

#include <cstdint>
#include <optional>
#include <string>

#include "common/family.h"
#include "router/contemplation/client_event.h"
#include "router/contemplation/transcript.h"

namespace conclave::router {

// Where an agent is on the live attempt. (What it is in token time, the tally knows.)
enum class Seat : uint8_t {
  kNone,   // Nowhere.
  kSent,   // Its gang was sent and not answered.
  kTaken,  // Accepted.
  kLeft,   // Its end was received.
};

// What copies of an agent said that were asked for its answer.
struct CopiesSaid {
  int last = 0;                            // The agent's count when the last one was made.
  int last_here = 0;                       // The same, of those made on the live attempt.
  std::optional<std::string> answer = {};  // What the last ones gave, as the key found it,
  int agreeing = 0;                        // so many of them in a row.
  std::string text = {};                   // Of the last one.
  std::optional<int> ends_at = {};         // Enough agree: it ends when it has so many tokens.
};

// What is known of one agent.
struct Agent {
  AgentRecipe recipe;  // Its tokens are in the transcript.
  int model = 0;       // Whose it is: 0 the request's, or what merges; k the plan's others[k - 1].
  Transcript transcript = {};
  Seat seat = Seat::kNone;
  bool entered = false;   // Was accepted once.
  bool kept_out = false;  // Waited, and will not enter.
  int prompt_tokens = 0;
  int run_to = 0;                          // As the worker knows it; 0 = never waits.
  std::optional<Finish> end = {};          // As received; none once it is cut.
  StopCause stopped_by = {};               // Of that end.
  CutReason cut = CutReason::kSettled;     // Why; meaningless when it is not cut.
  std::optional<std::string> answer = {};  // What it voted.
  double weight = 0;                       // Of its vote; 0 without one.
  std::optional<Verdict> verdict = {};     // Of the checker, on its answer.
  CopiesSaid asked = {};
  bool agreed = false;           // What its copies agreed on is its end, and its answer.
  std::optional<int> kept = {};  // Set when it is counted or cut.
  absl::Time seated = {};        // When it was sent; of the synthesiser, when it could first be.
  absl::Time moved = absl::InfinitePast();  // When it last brought a token.
};

// One that can do nothing until those behind its clock have got as far.
struct Waiter {
  int64_t clock = 0;
  absl::Time since;
};

}  // namespace conclave::router
