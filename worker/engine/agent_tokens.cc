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
      confidence_(spec.bar.window) {}

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
  while (!ended_ && !forced_.empty() && count() < run_to_) {
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
  if (verdict.kind == Verdict::Kind::kStop) {
    End(verdict.finish, verdict.trailing, std::move(verdict.cause));
  } else if (count() == grant_) {
    End(Finish::kLength, 0);
  } else if (hopeless) {
    End(Finish::kBar, 0);
  } else if (verdict.kind == Verdict::Kind::kForce) {
    forced_.insert(forced_.begin(), verdict.force.begin(), verdict.force.end());
  }
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
  return !ended_ && forced_.empty() && count() + ahead < std::min(grant_, run_to_);
}

}  // namespace conclave::worker
