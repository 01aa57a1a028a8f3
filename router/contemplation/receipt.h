#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "common/family.h"
#include "router/contemplation/client_event.h"
#include "router/contemplation/transcript.h"

namespace conclave::router {

// An agent as its tokens enter the result's hash.
struct KeptTokens {
  AgentId agent{};
  const Transcript* transcript = nullptr;  // Must outlive the call.
  int kept = 0;
};

// Hex SHA-256 of what must be equal when a request is run again. The bytes, integers little-endian:
//   "conclave result 1\n"
//   u32 number of agents with kept > 0; each, in order of id:
//     u32 agent, u32 kept, then `kept` token ids as i32
//   u32 number of votes; each, in the order of Receipt.votes:
//     u32 length of the answer, its bytes, u32 count
//     in a weighted vote also u64, the bits of the weight as a double
//   u64 length of the answer, its bytes
// Agents that keep nothing are left out: whether they had entered is no part of the result.
// Weights are in it because they decide: with them the hash says that the log-probabilities were
// equal too. A weighted vote begins with "conclave result 2 weighted\n".
std::string ResultHash(const std::vector<KeptTokens>& agents, const std::vector<Vote>& votes,
                       VoteWeight weight, std::string_view answer);

// The share of the bill of prompts and probes, attempt by attempt. Of the prompts computed + shared
// = total, the length of every agent's prompt once. What an attempt computed beyond the prompts of
// agents that are new on it was run again; so was what copies of agents say a second time. An
// attempt that was lost did not say what it computed: its new agents' prompts count as computed.
class PromptBill {
 public:
  // On the current attempt.
  void Accepted(AgentId agent, int prompt_tokens);
  // A copy of an agent gave and drew so many tokens.
  void Probed(int tokens) { probe_tokens_heard_ += tokens; }
  // One that did so before a loss gave and drew them again: they are run again, as prompts are.
  void ProbedAgain(int tokens) { probe_tokens_again_ += tokens; }
  // The current attempt is over; the next one begins.
  void Ended(const FamilyTotals& totals);
  void Lost();

  // REQUIRES: the current attempt, if anything was accepted on it, is over.
  PromptUsage usage() const;
  // Of all attempts: what their groups said in the end, or else what was heard.
  int64_t probe_tokens() const { return probe_tokens_; }
  // Whether the current attempt has agents.
  bool any() const { return any_; }
  // Whether an attempt with agents never said its totals.
  bool incomplete() const { return incomplete_; }

 private:
  std::map<AgentId, int> prompts_;
  int64_t fresh_ = 0;  // Prompt tokens of agents that are new on the current attempt.
  int64_t probe_tokens_ = 0;
  // On the current attempt.
  int64_t probe_tokens_heard_ = 0, probe_tokens_again_ = 0;
  bool any_ = false;  // An agent was accepted.
  bool incomplete_ = false;
  PromptUsage usage_;
};

}  // namespace conclave::router
