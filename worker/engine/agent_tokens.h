#pragma once

#include <absl/status/status.h>

#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "worker/engine/engine.h"

namespace conclave::worker {

// The tokens of one agent, and what its policy, its limits and its bar say about them. Pure: the
// same tokens give the same ends, the same forced tokens and the same questions, whether they are
// sampled here or fed. One thread.
class AgentTokens {
 public:
  // Takes the spec's prompt, policy, limits, bar and probes. Its `produced` are Feed's.
  explicit AgentTokens(AgentSpec& spec);
  // A copy of `asked` as it was when it had `at` tokens. Release puts what ends its thinking.
  AgentTokens(const AgentTokens& asked, int at);

  // Passes tokens that the agent produced elsewhere through the policy. kInvalidArgument: the
  // policy or the bar stops before the last of them, other ones are forced, or there are more than
  // the grant.
  // Afterwards Release puts what is still forced. Call at most once, first.
  absl::Status Feed(const std::vector<TokenEvent>& produced);

  // Takes the token drawn at index count(), then all forced ones that its verdict brings, up to
  // where it waits. What was added is appended to `added`. REQUIRES: wants_token().
  void TakeSampled(const TokenEvent& token, std::vector<TokenEvent>& added);

  // Adds forced tokens that wait, up to where it waits.
  void Release(std::vector<TokenEvent>& added);

  // Raises run_to; a lower count changes nothing.
  void RunTo(int count);

  // The count at which a copy is due to be asked, if there is one: from now on the agent waits,
  // when it has `every` tokens more, for Answered. REQUIRES: nobody is being asked.
  std::optional<int> TakeDue();
  void Answered() { hold_ = INT32_MAX; }

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
  bool IsDue(const TokenEvent& token) const;
  int waits_at() const { return run_to_ < hold_ ? run_to_ : hold_; }
  bool FallsBelowBar(const TokenEvent& token);
  void End(Finish finish, int trailing, StopCause cause = {});

  std::vector<TokenId> all_;
  const int prompt_length_;
  const int grant_;
  int run_to_;
  std::unique_ptr<OutputPolicy> policy_;
  const double bar_;            // 0 = none; then the confidence is not kept.
  WindowedMean confidence_;     // DeepConf's, of the drawn tokens.
  std::deque<TokenId> forced_;  // Come next. Not empty only while it waits.
  const ProbeRules probes_;
  int drawn_ = 0;         // Fed ones that were drawn, too.
  std::deque<int> due_;   // Counts at which copies are to be asked.
  int hold_ = INT32_MAX;  // Waits at this count for the copy that is being asked.
  bool ended_ = false;
  AgentEnd end_;
};

}  // namespace conclave::worker
