#include "router/admission/admission.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "common/status_details.h"

namespace conclave::router {
namespace {

void Run(const std::vector<std::function<void()>>& calls) {
  for (const auto& call : calls) call();
}

}  // namespace

Ticket::Ticket(Ticket&& other) noexcept
    : admission_(std::exchange(other.admission_, nullptr)),
      question_(std::move(other.question_)),
      used_(other.used_) {}

Ticket& Ticket::operator=(Ticket&& other) noexcept {
  std::swap(admission_, other.admission_);
  std::swap(question_, other.question_);
  std::swap(used_, other.used_);
  return *this;
}

Ticket::~Ticket() {
  if (admission_ != nullptr) admission_->Leave(question_, used_);
}

Admission::Admission(AdmissionOptions options) : options_(std::move(options)) {
  absl::MutexLock lock(&mutex_);
  for (const TenantOptions& tenant : options_.tenants) {
    tenants_[tenant.name] = {tenant.max_requests, tenant.max_agents, tenant.weight};
  }
}

Admission::~Admission() {
  Drain();
  CHECK(running() == 0);
}

// Only the tenants of the config and "anonymous" exist, so the map can't grow with what callers
// say.
Admission::Tenant& Admission::TenantOf(const std::string& name) {
  const auto found = tenants_.find(name);
  if (found != tenants_.end()) return found->second;
  return tenants_[kAnonymous] = {options_.max_requests, options_.max_agents, 1};
}

absl::Status Admission::Refusal(const AdmissionQuestion& question, const std::string& what) {
  StatusDetails details;
  details.quotas.emplace_back("tenant:" + question.tenant, what);
  details.retry_after = options_.retry_after;
  return WithDetails(ResourceExhausted("{}", what), details);
}

bool Admission::FitsTenant(const AdmissionQuestion& question) {
  const Tenant& tenant = TenantOf(question.tenant);
  return tenant.requests < tenant.max_requests &&
         tenant.agents + question.agents <= tenant.max_agents;
}

bool Admission::Fits(const AdmissionQuestion& question) {
  return requests_ < options_.max_requests && agents_ + question.agents <= options_.max_agents &&
         FitsTenant(question);
}

absl::Status Admission::NeverFits(const AdmissionQuestion& question) {
  const int most = std::min(options_.max_agents, TenantOf(question.tenant).max_agents);
  if (question.agents <= most) return absl::OkStatus();
  // Waiting would not help, so it is not told when to come back.
  StatusDetails details;
  details.quotas.emplace_back("tenant:" + question.tenant,
                              fmt::format("{} agents at a time", most));
  return WithDetails(ResourceExhausted("{} agents are more than the {} that may run at a time",
                                       question.agents, most),
                     details);
}

absl::Status Admission::WhyRefused(const AdmissionQuestion& question) {
  if (draining_) {
    return WithRetryAfter(Unavailable("the router is about to stop"), options_.retry_after);
  }
  RETURN_IF_ERROR(NeverFits(question));
  const bool waits = !queue_.empty() || !Fits(question);
  if (!question.may_wait) {
    if (Fits(question)) return absl::OkStatus();
    return Refusal(question, fmt::format("{} requests run", requests_));
  }
  if (!waits || queue_.size() < static_cast<size_t>(options_.max_queued)) return absl::OkStatus();
  return Refusal(question, fmt::format("{} requests wait; the limit is {}", queue_.size(),
                                       options_.max_queued));
}

// Start-time fair queueing (Goyal, Vin, Cheng 1996): a request starts where its tenant's last one
// ended, but not before the one that entered last: idleness saves nothing up.
double Admission::StartOf(const std::string& tenant) {
  return std::max(TenantOf(tenant).tokens, virtual_time_);
}

void Admission::Enter(const AdmissionQuestion& question) {
  Tenant& tenant = TenantOf(question.tenant);
  tenant.tokens = virtual_time_ = StartOf(question.tenant);
  ++requests_;
  ++tenant.requests;
  agents_ += question.agents;
  tenant.agents += question.agents;
  tenant.tokens += static_cast<double>(question.tokens) / tenant.weight;
}

// The waiting request that comes first: of each tenant only its first counts, and only a tenant's
// own limits let others pass it. So a request for many agents is not overtaken for ever by small
// ones.
std::list<Admission::Waiting>::iterator Admission::First() {
  auto first = queue_.end();
  std::set<std::string_view> seen;
  for (auto at = queue_.begin(); at != queue_.end(); ++at) {
    const std::string& tenant = at->question.tenant;
    if (!seen.insert(tenant).second || !FitsTenant(at->question)) continue;
    if (first == queue_.end() ||
        TenantOf(tenant).tokens < TenantOf(first->question.tenant).tokens) {
      first = at;
    }
  }
  return first;
}

void Admission::Grant(Calls& calls) {
  for (auto next = First(); next != queue_.end() && Fits(next->question); next = First()) {
    Enter(next->question);
    calls.push_back(Granted(std::move(next->question), std::move(next->done)));
    queue_.erase(next);
  }
}

std::function<void()> Admission::Granted(AdmissionQuestion question, Done done) {
  // Shared because std::function copies what it calls, and a ticket can't be copied.
  auto ticket = std::make_shared<Ticket>(Ticket(this, std::move(question)));
  return [done = std::move(done), ticket] { done(std::move(*ticket)); };
}

uint64_t Admission::Admit(AdmissionQuestion question, absl::Time now, Done done) {
  uint64_t id = 0;
  absl::Status refusal;
  Calls calls;
  {
    absl::MutexLock lock(&mutex_);
    refusal = WhyRefused(question);
    if (refusal.ok() && !question.may_wait) {
      Enter(question);
      calls.push_back(Granted(std::move(question), std::move(done)));
    } else if (refusal.ok()) {
      id = ++last_id_;
      queue_.push_back({id, std::move(question), now, std::move(done)});
      Grant(calls);
    }
  }
  if (!refusal.ok()) {
    done(std::move(refusal));
    return 0;
  }
  Run(calls);
  return id;
}

void Admission::Withdraw(uint64_t id) {
  Calls calls;
  {
    absl::MutexLock lock(&mutex_);
    const auto at = std::find_if(queue_.begin(), queue_.end(),
                                 [id](const Waiting& waiting) { return waiting.id == id; });
    if (at == queue_.end()) return;
    calls.push_back([done = std::move(at->done)] { done(Cancelled("withdrawn while it waited")); });
    queue_.erase(at);
  }
  Run(calls);
}

void Admission::Expire(absl::Time now) {
  Calls calls;
  {
    absl::MutexLock lock(&mutex_);
    for (auto at = queue_.begin(); at != queue_.end();) {
      if (now - at->since < options_.queue_wait) {
        ++at;
        continue;
      }
      const absl::Status status =
          Refusal(at->question, fmt::format("waited {} for {} requests that run",
                                            absl::FormatDuration(options_.queue_wait), requests_));
      calls.push_back([done = std::move(at->done), status] { done(status); });
      at = queue_.erase(at);
    }
  }
  Run(calls);
}

void Admission::Drain() {
  Calls calls;
  {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
    for (Waiting& waiting : queue_) {
      calls.push_back([done = std::move(waiting.done), retry_after = options_.retry_after] {
        done(WithRetryAfter(Unavailable("the router is about to stop"), retry_after));
      });
    }
    queue_.clear();
  }
  Run(calls);
}

void Admission::Leave(const AdmissionQuestion& question, int64_t used) {
  Calls calls;
  {
    absl::MutexLock lock(&mutex_);
    Tenant& tenant = TenantOf(question.tenant);
    --requests_;
    --tenant.requests;
    agents_ -= question.agents;
    tenant.agents -= question.agents;
    tenant.tokens += static_cast<double>(used - question.tokens) / tenant.weight;
    Grant(calls);
  }
  Run(calls);
}

int Admission::running() const {
  absl::MutexLock lock(&mutex_);
  return requests_;
}

int Admission::queued() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int>(queue_.size());
}

}  // namespace conclave::router
