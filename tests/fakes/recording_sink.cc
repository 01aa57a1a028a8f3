#include "tests/fakes/recording_sink.h"

#include "common/check.h"

namespace conclave::worker {

void RecordingSink::ExpectFed(AgentId agent, int fed) {
  absl::MutexLock lock(&mutex_);
  agents_[agent].fed = fed;
}

void RecordingSink::OnAccepted(const std::vector<AgentId>& gang) {
  absl::MutexLock lock(&mutex_);
  CHECK(!counters_.has_value());
  ++answers_;
  for (const AgentId agent : gang) {
    CHECK(!agents_[agent].accepted);
    agents_[agent].accepted = true;
  }
}

void RecordingSink::OnRefused(const std::vector<AgentId>& gang, const absl::Status& why,
                              int width) {
  absl::MutexLock lock(&mutex_);
  CHECK(!counters_.has_value());
  ++answers_;
  refusals_.push_back({gang, why, width});
}

void RecordingSink::OnTokens(AgentId agent, int first, const std::vector<TokenEvent>& tokens,
                             const std::optional<AgentEnd>& end) {
  absl::MutexLock lock(&mutex_);
  Agent& told = agents_.at(agent);
  CHECK(told.accepted && !told.end.has_value() && !counters_.has_value());
  CHECK(!tokens.empty() || end.has_value());
  CHECK(tokens.empty() || first == told.fed + static_cast<int>(told.tokens.size()));
  told.tokens.insert(told.tokens.end(), tokens.begin(), tokens.end());
  if (!end) return;
  CHECK(end->fed == told.fed && end->sampled + end->forced == static_cast<int>(told.tokens.size()));
  told.end = end;
}

void RecordingSink::OnProbe(AgentId agent, int at, const std::vector<TokenEvent>& tokens) {
  absl::MutexLock lock(&mutex_);
  Agent& asked = agents_.at(agent);
  CHECK(asked.accepted && !asked.end.has_value() && !counters_.has_value());
  CHECK(asked.probes.empty() || asked.probes.back().at < at);
  const int count = asked.fed + static_cast<int>(asked.tokens.size());
  CHECK(at <= count);
  asked.probes.push_back({at, tokens, count});
}

void RecordingSink::OnFamilyEnd(const FamilyCounters& counters) {
  absl::MutexLock lock(&mutex_);
  CHECK(!counters_.has_value());
  for (const auto& [id, agent] : agents_) CHECK(!agent.accepted || agent.end.has_value());
  counters_ = counters;
}

std::vector<TokenEvent> RecordingSink::tokens(AgentId agent) const {
  absl::MutexLock lock(&mutex_);
  const auto found = agents_.find(agent);
  return found == agents_.end() ? std::vector<TokenEvent>() : found->second.tokens;
}

int RecordingSink::count(AgentId agent) const {
  absl::MutexLock lock(&mutex_);
  const auto found = agents_.find(agent);
  return found == agents_.end() ? 0 : static_cast<int>(found->second.tokens.size());
}

std::optional<AgentEnd> RecordingSink::end(AgentId agent) const {
  absl::MutexLock lock(&mutex_);
  const auto found = agents_.find(agent);
  return found == agents_.end() ? std::nullopt : found->second.end;
}

std::vector<RecordingSink::Probe> RecordingSink::probes(AgentId agent) const {
  absl::MutexLock lock(&mutex_);
  const auto found = agents_.find(agent);
  return found == agents_.end() ? std::vector<Probe>() : found->second.probes;
}

std::vector<RecordingSink::Refusal> RecordingSink::refusals() const {
  absl::MutexLock lock(&mutex_);
  return refusals_;
}

std::optional<FamilyCounters> RecordingSink::counters() const {
  absl::MutexLock lock(&mutex_);
  return counters_;
}

int RecordingSink::accepted() const {
  absl::MutexLock lock(&mutex_);
  int accepted = 0;
  for (const auto& [id, agent] : agents_) accepted += agent.accepted ? 1 : 0;
  return accepted;
}

bool RecordingSink::accepted(AgentId agent) const {
  absl::MutexLock lock(&mutex_);
  const auto found = agents_.find(agent);
  return found != agents_.end() && found->second.accepted;
}

FamilyCounters RecordingSink::AwaitFamilyEnd() const {
  absl::MutexLock lock(&mutex_);
  const auto ended = [this]()
                         ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return counters_.has_value(); };
  mutex_.Await(absl::Condition(&ended));
  return *counters_;
}

void RecordingSink::AwaitAnswers(int adds) const {
  absl::MutexLock lock(&mutex_);
  const auto answered = [this, adds]()
                            ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return answers_ >= adds; };
  mutex_.Await(absl::Condition(&answered));
}

void RecordingSink::AwaitTokens(AgentId agent, int count) const {
  absl::MutexLock lock(&mutex_);
  const auto arrived = [this, agent, count]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const auto found = agents_.find(agent);
    return found != agents_.end() && static_cast<int>(found->second.tokens.size()) >= count;
  };
  mutex_.Await(absl::Condition(&arrived));
}

}  // namespace conclave::worker
