#pragma once

#include <absl/status/statusor.h>

#include <functional>
#include <memory>
#include <string>

#include "common/clock.h"
#include "conclave/v1/conclave.pb.h"
#include "router/admission/admission.h"
#include "router/fleet/fleet.h"

namespace conclave::router {

// The calls that ask a group what messages are, and run nothing. Rendering and tokenising are work
// too: each takes a ticket while it lasts, and is refused rather than queued. Thread-safe; what it
// is given outlives it and its calls.
class PromptCalls {
 public:
  PromptCalls(Admission& admission, Fleet& fleet, Clock& clock)
      : admission_(admission), fleet_(fleet), clock_(clock) {}

  using Done = std::function<void(const absl::Status&)>;  // Called once, from any thread.

  // `response` lives until `done` is called.
  void Count(const std::string& tenant, const v1::CountTokensRequest& request,
             v1::CountTokensResponse& response, const Done& done) const;
  void Render(const std::string& tenant, const v1::RenderPromptRequest& request,
              v1::RenderPromptResponse& response, const Done& done) const;

 private:
  // A call that passed the checks.
  struct Job {
    AdmissionQuestion admission;
    PromptQuestion question;
    std::string model;
    int group = 0;
  };
  using Work = std::function<void(Done)>;

  template <typename Request>
  absl::StatusOr<Job> Prepare(const std::string& tenant, const Request& request) const;
  void Admit(const Job& job, const Done& done, Work work) const;

  Admission& admission_;
  Fleet& fleet_;
  Clock& clock_;
};

}  // namespace conclave::router
