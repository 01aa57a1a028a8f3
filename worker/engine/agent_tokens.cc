#include "worker/engine/agent_tokens.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace conclave::worker {

AgentTokens::AgentTokens(AgentSpec& spec)
    : all_(std::move(spec.prompt)),
      prompt_length_(static_cast<int>(all_.size())),
      grant_(spec.grant),
      run_to_(spec.run_to),
      policy_(std::move(spec.policy)),
      bar_(spec.bar.bar),
      confidence_(spec.bar.window),
      probes_(std::move(spec.probes)) {}

AgentTokens::AgentTokens(const AgentTokens& asked, int at)
    : all_(asked.all_.begin(), asked.all_.begin() + asked.prompt_length_ + at),
      prompt_length_(asked.prompt_length_),
      grant_(std::min(asked.grant_,
                      at + static_cast<int>(asked.probes_.force.size()) + asked.probes_.tokens)),
      run_to_(INT32_MAX),
      policy_(asked.probes_.policy()),
      bar_(0),
      confidence_(1),
      forced_(asked.probes_.force.begin(), asked.probes_.force.end()) {}

absl::Status AgentTokens::Feed(const std::vector<TokenEvent>& produced) {
  if (static_cast<int64_t>(produced.size()) > grant_) {
    return InvalidArgument("{} produced tokens; the grant is {}", produced.size(), grant_);
  }
  all_.reserve(all_.size() + produced.size());
  for (const TokenEvent& token : produced) {
    if (ended_) {
      return InvalidArgument("the agent ends at token {}; {} were produced", count(),
                             produced.size());
    }
    if (!forced_.empty()) {
      if (forced_.front() != token.id) {
        return InvalidArgument("token {} was produced as {}; the policy forces {}", count(),
                               token.id, forced_.front());
      }
      forced_.pop_front();
    }
    ++end_.fed;
    Add(token);
  }
  // It came past the others only because they had been answered.
  while (!due_.empty() && due_.front() + probes_.every < count()) due_.pop_front();
  if (!due_.empty()) hold_ = due_.front() + probes_.every;
  return absl::OkStatus();
}

void AgentTokens::TakeSampled(const TokenEvent& token, std::vector<TokenEvent>& added) {
  CHECK(wants_token(0));
  added.push_back(token);
  ++end_.sampled;
  Add(token);
  Release(added);
}

void AgentTokens::Release(std::vector<TokenEvent>& added) {
  while (!ended_ && !forced_.empty() && count() < waits_at()) {
    const TokenEvent token{.id = forced_.front(), .kind = TokenKind::kForced};
    forced_.pop_front();
    added.push_back(token);
    ++end_.forced;
    Add(token);
  }
}

void AgentTokens::Add(const TokenEvent& token) {
  all_.push_back(token.id);
  Verdict verdict = policy_->OnToken(token);
  const bool hopeless = FallsBelowBar(token);
  drawn_ += token.kind == TokenKind::kSampled ? 1 : 0;
  if (verdict.kind == Verdict::Kind::kStop) {
    End(verdict.finish, verdict.trailing, std::move(verdict.cause));
  } else if (count() == grant_) {
    End(Finish::kLength, 0);
  } else if (hopeless) {
    End(Finish::kBar, 0);
  } else if (verdict.kind == Verdict::Kind::kForce) {
    forced_.insert(forced_.begin(), verdict.force.begin(), verdict.force.end());
  } else if (verdict.thinks && IsDue(token)) {
    due_.push_back(count());
  }
}

bool AgentTokens::IsDue(const TokenEvent& token) const {
  return probes_.every > 0 && token.kind == TokenKind::kSampled && drawn_ % probes_.every == 0 &&
         forced_.empty() && count() + static_cast<int>(probes_.force.size()) < grant_;
}

std::optional<int> AgentTokens::TakeDue() {
  if (due_.empty()) return std::nullopt;
  const int at = due_.front();
  due_.pop_front();
  hold_ = at + probes_.every;
  return at;
}

// The bar is looked at after each drawn token, as soon as the first window is full.
bool AgentTokens::FallsBelowBar(const TokenEvent& token) {
  if (bar_ == 0 || token.kind != TokenKind::kSampled) return false;
  confidence_.Add(-double{token.top_logprob_mean});
  return confidence_.full() && confidence_.last() < bar_;
}

void AgentTokens::RunTo(int count) { run_to_ = std::max(run_to_, count); }

void AgentTokens::Cancel() {
  if (!ended_) End(Finish::kCancelled, 0);
}

void AgentTokens::End(Finish finish, int trailing, StopCause cause) {
  ended_ = true;
  end_.finish = finish;
  end_.cause = std::move(cause);
  end_.trailing = trailing;
  forced_.clear();
}

bool AgentTokens::wants_token(int ahead) const {
  return !ended_ && forced_.empty() && count() + ahead < std::min(grant_, waits_at());
}

}  // namespace conclave::worker
