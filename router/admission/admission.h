#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/status/statusor.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "router/admission/keys.h"

namespace conclave::router {

struct AdmissionOptions {
  int max_requests = 256;                         // That run at a time.
  int max_agents = 1024;                          // Of the requests that run.
  int max_queued = 256;                           // Requests that wait; more are refused at once.
  absl::Duration queue_wait = absl::Seconds(30);  // Longest wait.
  absl::Duration retry_after = absl::Seconds(1);  // What the refused are told.
  std::vector<TenantOptions> tenants = {};        // Empty: anybody, within the limits above.

  bool operator==(const AdmissionOptions&) const = default;
};

// What a request would take.
struct AdmissionQuestion {
  std::string tenant;
  int agents = 1;
  int64_t tokens = 1;    // An estimate; fairness is counted in it.
  bool may_wait = true;  // False: refused rather than queued.
};

class Admission;

// The right to run, given back by the destructor. Thread-compatible; the Admission must outlive it.
class Ticket {
 public:
  Ticket(Ticket&& other) noexcept;
  Ticket& operator=(Ticket&& other) noexcept;
  ~Ticket();

  // What it really took, in place of the estimate.
  void Used(int64_t tokens) { used_ = tokens; }

 private:
  friend class Admission;
  Ticket(Admission* admission, AdmissionQuestion question)
      : admission_(admission), question_(std::move(question)), used_(question_.tokens) {}

  Admission* admission_;  // Null: given away.
  AdmissionQuestion question_;
  int64_t used_;
};

// Who may enter, and when: the queue of the whole system. Among those that wait, the tenant with
// the fewest tokens (those of its running requests and those that it used lately, by weight) comes
// first; within a tenant, who came first. Has no clock and no thread: time is an argument, and
// Expire is called from time to time. Thread-safe; no lock is held while a callback runs.
class Admission {
 public:
  using Done = std::function<void(absl::StatusOr<Ticket>)>;

  explicit Admission(AdmissionOptions options);
  // Everybody who waits is refused; no ticket may be left.
  ~Admission();

  // Calls `done` exactly once, now or later, from whichever thread makes room. kResourceExhausted,
  // with RetryInfo and the limit that was met, when it can't enter, or not in time. The result
  // names the request for Withdraw; 0: it was refused at once.
  uint64_t Admit(AdmissionQuestion question, absl::Time now, Done done);

  // The request no longer wants to enter: `done` gets kCancelled, unless it was called already.
  void Withdraw(uint64_t id);

  // Refuses those who have waited too long. Call it every second or so.
  void Expire(absl::Time now);

  // Refuses all who wait and all who come, with kUnavailable: the program is about to end.
  void Drain();

  int running() const;
  int queued() const;

 private:
  friend class Ticket;
  struct Tenant {
    int max_requests = 0, max_agents = 0;
    double weight = 1;
    int requests = 0, agents = 0;
    double tokens = 0;  // Virtual time at which its last request ends: tokens by weight.
  };
  struct Waiting {
    uint64_t id = 0;
    AdmissionQuestion question;
    absl::Time since;
    Done done;
  };
  using Calls = std::vector<std::function<void()>>;

  Tenant& TenantOf(const std::string& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool FitsTenant(const AdmissionQuestion& question) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool Fits(const AdmissionQuestion& question) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status NeverFits(const AdmissionQuestion& question) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // OK: it may enter the queue, which it leaves at once when it fits.
  absl::Status WhyRefused(const AdmissionQuestion& question) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status Refusal(const AdmissionQuestion& question, const std::string& what)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  double StartOf(const std::string& tenant) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Enter(const AdmissionQuestion& question) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::list<Waiting>::iterator First() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::function<void()> Granted(AdmissionQuestion question, Done done);
  void Grant(Calls& calls) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Leave(const AdmissionQuestion& question, int64_t used);

  const AdmissionOptions options_;
  mutable absl::Mutex mutex_;
  std::map<std::string, Tenant> tenants_ ABSL_GUARDED_BY(mutex_);
  std::list<Waiting> queue_ ABSL_GUARDED_BY(mutex_);  // In order of arrival.
  uint64_t last_id_ ABSL_GUARDED_BY(mutex_) = 0;
  int requests_ ABSL_GUARDED_BY(mutex_) = 0;
  int agents_ ABSL_GUARDED_BY(mutex_) = 0;
  double virtual_time_ ABSL_GUARDED_BY(mutex_) = 0;  // Start of the request that entered last.
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace conclave::router
