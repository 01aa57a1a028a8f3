#pragma once

#include <absl/status/status.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/chat.h"
#include "common/confidence.h"
#include "common/generation.h"
#include "common/types.h"

// What router and worker say to each other about one family: the common form of worker.proto.
namespace conclave {

enum class Thinking : uint8_t { kOff, kOn };

// Limits of a recipe's probes.
inline constexpr int kLeastProbeEvery = 16, kMostProbeEvery = 65536;
inline constexpr int kMostProbeTokens = 256;

// What all agents of a family share; the first word on a stream.
struct FamilyOpening {
  std::string request_id;
  uint64_t seed = 0;
  std::string salt;
  std::vector<Message> messages;
  int64_t time_of_day = 0;  // Seconds since 1970: what the chat template sees.
  std::string fingerprint;  // Empty: any group.
};

// One agent to run.
struct AgentRecipe {
  AgentId id{};
  std::string append;             // Appended to the family's last user turn.
  std::vector<Message> messages;  // In place of the family's, when not empty.
  Thinking thinking = Thinking::kOff;
  Sampling sampling;
  int grant = 0;   // Most tokens after the prompt, forced and fed ones included.
  int run_to = 0;  // Waits at this count; 0 = never.
  Budget budget;
  std::vector<std::string> stop;
  std::vector<TokenEvent> produced;  // When it ran before: fed silently, nothing told.
  ConfidenceBar bar = {};
  std::vector<TokenId> stop_tokens = {};  // End it, besides the model's own.
  std::optional<int> top_logprobs = {};   // Set: tokens are told, with so many of the likeliest.
  int probe_every = 0;  // It is asked for its answer at every so many drawn tokens of its thinking.
  int probe_tokens = 0;  // Most tokens of such an answer.
};

// A token as it travels: text_end = bytes of the agent's text (thinking, then answer) released
// after it, since the beginning.
struct TextToken {
  TokenEvent token;
  int64_t text_end = 0;

  bool operator==(const TextToken&) const = default;
};

struct AgentEnding {
  Finish cause = Finish::kStop;
  int sampled = 0, forced = 0, fed = 0;  // This stream's own.
  int trailing = 0;
  StopCause stopped_by = {};  // Of kStop.
};

// New tokens of an agent, without gaps; the end is a field of the delta that carries the last
// token.
struct FamilyDelta {
  AgentId agent{};
  int first = 0;  // Index of the first token after the prompt.
  std::vector<TextToken> tokens;
  std::string thinking, answer;  // Text released by them.
  std::optional<AgentEnding> end;
};

// What a copy of an agent answered whose thinking was ended when it had `at` tokens. It comes
// before the agent's token number at + probe_every + 1, and never after its end.
struct ProbeResult {
  AgentId agent{};
  int at = 0;
  std::string answer = {};
  int sampled = 0, forced = 0;
  float logprob_mean = 0;  // Of the drawn ones.

  bool operator==(const ProbeResult&) const = default;
};

struct AcceptedAgent {
  AgentId id{};
  int prompt_tokens = 0;
};

struct FamilyTotals {
  int64_t prompt_computed = 0, prompt_shared = 0;
  int64_t sampled = 0, forced = 0, fed = 0, recomputed = 0;
  int64_t probed = 0;  // Tokens of probes; in no other sum.
};

// How full a group is.
struct GroupLoad {
  int credits = 0;
  int agents_running = 0;
  int64_t queued_prompt_tokens = 0;
  int blocks_free = 0, blocks_total = 0;
  bool ready = false;
  int64_t epoch = 0;
};

}  // namespace conclave
