#pragma once

#include <absl/status/status.h>

#include <deque>
#include <memory>
#include <vector>

#include "worker/engine/engine.h"

namespace conclave::worker {

// The tokens of one agent, and what its policy, its limits and its bar say about them. Pure: the
// same tokens give the same ends and the same forced tokens, whether they are sampled here or fed.
// One thread.
class AgentTokens {
 public:
  // Takes the spec's prompt, policy, limits and bar. Its `produced` are Feed's.
  explicit AgentTokens(AgentSpec& spec);

  // Passes tokens that the agent produced elsewhere through the policy. kInvalidArgument: the
  // policy or the bar stops before the last of them, other ones are forced, or there are more than
  // the grant.
  // Afterwards Release puts what is still forced. Call at most once, first.
  absl::Status Feed(const std::vector<TokenEvent>& produced);

  // Takes the token drawn at index count(), then all forced ones that its verdict brings, up to
  // run_to. What was added is appended to `added`. REQUIRES: wants_token().
  void TakeSampled(const TokenEvent& token, std::vector<TokenEvent>& added);

  // Adds forced tokens that wait, up to run_to.
  void Release(std::vector<TokenEvent>& added);

  // Raises run_to; a lower count changes nothing.
  void RunTo(int count);

  // Ends an agent from outside; nothing happens to one that has ended.
  void Cancel();

  // The prompt and everything after it.
  const std::vector<TokenId>& all() const { return all_; }
  int size() const { return static_cast<int>(all_.size()); }
  int prompt_length() const { return prompt_length_; }
  int count() const { return size() - prompt_length_; }  // Tokens after the prompt.
  int greatest_size() const { return prompt_length_ + grant_; }
  bool forced_wait() const { return !forced_.empty(); }

  // Whether token number count() + `ahead` may be drawn; `ahead` are drawn already and not taken.
  bool wants_token(int ahead) const;

  bool ended() const { return ended_; }
  const AgentEnd& end() const { return end_; }  // Its counts grow until the agent has ended.

 private:
  void Add(const TokenEvent& token);
  bool FallsBelowBar(const TokenEvent& token);
  void End(Finish finish, int trailing, StopCause cause = {});

  std::vector<TokenId> all_;
  const int prompt_length_;
  const int grant_;
  int run_to_;
  std::unique_ptr<OutputPolicy> policy_;
  const double bar_;            // 0 = none; then the confidence is not kept.
  WindowedMean confidence_;     // DeepConf's, of the drawn tokens.
  std::deque<TokenId> forced_;  // Come next. Not empty only while run_to is reached.
  bool ended_ = false;
  AgentEnd end_;
};

}  // namespace conclave::worker
