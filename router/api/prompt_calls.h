#pragma once

#include <absl/status/statusor.h>
#include <grpcpp/grpcpp.h>

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

  // `tenant`: who calls, or why nobody does. Request and response live until the reactor's end.
  grpc::ServerUnaryReactor* Count(grpc::CallbackServerContext& context,
                                  const absl::StatusOr<std::string>& tenant,
                                  const v1::CountTokensRequest& request,
                                  v1::CountTokensResponse& response) const;
  grpc::ServerUnaryReactor* Render(grpc::CallbackServerContext& context,
                                   const absl::StatusOr<std::string>& tenant,
                                   const v1::RenderPromptRequest& request,
                                   v1::RenderPromptResponse& response) const;

 private:
  // A call that passed the checks.
  struct Job {
    AdmissionQuestion admission;
    PromptQuestion question;
    std::string model;
    int group = 0;
  };
  // The work itself; calls its argument once, when it is done.
  using Work = std::function<void(std::function<void(const absl::Status&)>)>;

  template <typename Request>
  absl::StatusOr<Job> Prepare(const absl::StatusOr<std::string>& tenant,
                              const Request& request) const;
  void Admit(const Job& job, grpc::ServerUnaryReactor* reactor, Work work) const;

  Admission& admission_;
  Fleet& fleet_;
  Clock& clock_;
};

}  // namespace conclave::router
