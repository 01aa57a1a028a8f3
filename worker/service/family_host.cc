#include "worker/service/family_host.h"

#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/status.h"
#include "common/status_details.h"
#include "worker/service/family_session.h"
#include "worker/service/timed_sink.h"

namespace conclave::worker {

FamilyHost::FamilyHost(FamilyHostOptions options, Engine& engine, const AgentFactory& factory,
                       WorkPool& pool, Logger log)
    : options_(std::move(options)),
      engine_(engine),
      factory_(factory),
      pool_(pool),
      log_(std::move(log)) {}

absl::Status FamilyHost::Enter(const std::shared_ptr<FamilySession>& session,
                               const FamilyOpening& opening) {
  if (!opening.fingerprint.empty() && opening.fingerprint != options_.fingerprint) {
    return FailedPrecondition("open.fingerprint is {}; the group's is {}", opening.fingerprint,
                              options_.fingerprint);
  }
  absl::MutexLock lock(&mutex_);
  if (!closed_.ok()) return WithRetryAfter(closed_, options_.retry_after);
  if (sessions_.size() >= static_cast<size_t>(options_.max_families)) {
    return WithRetryAfter(ResourceExhausted("the group has {} families; the limit is {}",
                                            sessions_.size(), options_.max_families),
                          options_.retry_after);
  }
  sessions_.emplace(session.get(), session);
  return absl::OkStatus();
}

void FamilyHost::Leave(FamilySession* session) {
  absl::MutexLock lock(&mutex_);
  sessions_.erase(session);
}

void FamilyHost::Close(absl::Status why) {
  absl::MutexLock lock(&mutex_);
  closed_ = std::move(why);
}

void FamilyHost::BreakAll(const absl::Status& why) {
  std::vector<std::shared_ptr<FamilySession>> sessions;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& [key, session] : sessions_) {
      if (auto alive = session.lock()) sessions.push_back(std::move(alive));
    }
  }
  for (const auto& session : sessions) session->Break(why);
}

bool FamilyHost::AwaitEmpty(absl::Duration timeout) {
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(this, &FamilyHost::Empty), timeout);
}

int FamilyHost::families() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int>(sessions_.size());
}

std::shared_ptr<FamilySink> FamilyHost::Timed(std::shared_ptr<FamilySink> sink) {
  return std::make_shared<TimedSink>(std::move(sink), std::make_unique<RealClock>(),
                                     options_.inter_token);
}

}  // namespace conclave::worker
