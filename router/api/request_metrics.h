#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/status/status.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "common/metrics.h"
#include "router/api/generation.h"

namespace conclave::router {

const char* NameOf(Mode mode);

class RequestMetrics;

// Counts one request that was admitted, in the words of its receipt: the sums of all receipts are
// the counters. One thread at a time; the RequestMetrics must outlive it.
class RequestCount {
 public:
  void FirstToken(absl::Duration after_admission);
  void On(const ClientEvent& event);
  // Once, last. What it produced without a receipt counts as cancelled.
  void Ended(const absl::Status& status, const Bill& bill);

 private:
  friend class RequestMetrics;
  RequestCount(RequestMetrics& metrics, std::string tenant, const Plan& plan)
      : metrics_(metrics),
        tenant_(std::move(tenant)),
        model_(plan.model),
        mode_(plan.mode),
        waves_(plan.waves) {}

  void Observe(const char* name, absl::Duration duration);
  void Ends(AgentId agent, std::string_view outcome);
  void Take(const Receipt& receipt);
  void TakeBill(const Bill& bill);
  void TakeAgents(const Receipt& receipt);
  void TakeRounds(const Receipt& receipt);
  void TakeVote(const Receipt& receipt);
  void TakeVerdicts(const Completed& completed);

  RequestMetrics& metrics_;
  const std::string tenant_, model_;
  const Mode mode_;
  const std::vector<int> waves_;  // As planned: agents of each.
  struct Started {
    int grant = 0;
    std::string_view outcome;  // As far as it is known.
  };
  std::map<AgentId, Started> agents_;
  bool answered_ = false;
};

// What is counted of requests, whoever their client is. Labels are bounded: models are what groups
// serve, tenants are the config's, all others are enums. Thread-safe.
class RequestMetrics {
 public:
  RequestMetrics(Metrics& metrics, const std::set<std::string>& tenants);

  // The model's series are there, at 0, from now on: a rate sees their first count.
  void Meet(const std::string& model);

  RequestCount Count(const std::string& tenant, const Plan& plan);
  // From arrival to admission.
  void Waited(absl::Duration wait) { queue_wait_.Observe(absl::ToDoubleSeconds(wait)); }
  // A request that was not admitted; of an unknown model and mode, where it was not understood.
  void Refused(const absl::Status& why) { Ended("", "unknown", why); }
  void Refused(const std::string& model, Mode mode, const absl::Status& why) {
    Ended(model, NameOf(mode), why);
  }
  // `how`: "reattached" or "run_again".
  void Resumed(const char* how);
  void ResumeRefused(const absl::Status& why);
  void SetAdmission(int running, int queued);
  void SetGroupsReady(int groups) { groups_ready_.Set(groups); }

 private:
  friend class RequestCount;
  void Ended(const std::string& model, const char* mode, const absl::Status& status);

  Metrics& metrics_;
  Gauge running_, queued_, groups_ready_;
  Histogram queue_wait_;
  absl::Mutex mutex_;
  std::set<std::string> met_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace conclave::router
