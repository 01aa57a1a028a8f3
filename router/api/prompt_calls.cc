#include "router/api/prompt_calls.h"

#include <utility>

#include "common/status.h"
#include "common/wire/message_wire.h"
#include "common/wire/prompt_wire.h"
#include "router/api/request_parser.h"

namespace conclave::router {

template <typename Request>
absl::StatusOr<PromptCalls::Job> PromptCalls::Prepare(const std::string& tenant,
                                                      const Request& request) const {
  Job job;
  job.admission.tenant = tenant;
  RETURN_IF_ERROR(CheckModelName(request.model()));
  if (!v1::Mode_IsValid(request.mode())) {
    return BadField("mode", fmt::format("has no value {}", static_cast<int>(request.mode())));
  }
  ASSIGN_OR_RETURN(job.question.messages, conclave::FromWire(request.messages(), "messages"));
  ASSIGN_OR_RETURN(const ModelDescription model, fleet_.FindModel(request.model()));
  const bool thinks = model.profile.thinks && request.mode() != v1::MODE_INSTANT;
  job.question.thinking = thinks ? Thinking::kOn : Thinking::kOff;
  job.question.time_of_day = absl::ToUnixSeconds(clock_.Now());
  job.model = model.name;
  job.admission.tokens = EstimateTokens(job.question.messages);
  job.admission.may_wait = false;
  for (const GroupView& group : fleet_.View()) {
    const bool serves = group.description && group.description->model.name == model.name;
    if (!group.reachable || !serves) continue;
    job.group = group.number;
    return job;
  }
  return fleet_.WhyNot({.model = model.name, .fingerprint = "", .agents = 1});
}

void PromptCalls::Admit(const Job& job, const Done& done, Work work) const {
  admission_.Admit(job.admission, clock_.Now(),
                   [done, work = std::move(work)](absl::StatusOr<Ticket> ticket) {
                     if (!ticket.ok()) return done(ticket.status());
                     // Shared by the callback's copies.
                     auto held = std::make_shared<Ticket>(*std::move(ticket));
                     work([done, held](const absl::Status& status) { done(status); });
                   });
}

void PromptCalls::Count(const std::string& tenant, const v1::CountTokensRequest& request,
                        v1::CountTokensResponse& response, const Done& done) const {
  absl::StatusOr<Job> job = Prepare(tenant, request);
  if (!job.ok()) return done(job.status());
  Admit(*job, done, [this, job = *job, &response](const Done& counted) {
    fleet_.Count(job.group, job.question, [&response, counted](absl::StatusOr<int> tokens) {
      if (tokens.ok()) response.set_tokens(*tokens);
      counted(tokens.status());
    });
  });
}

void PromptCalls::Render(const std::string& tenant, const v1::RenderPromptRequest& request,
                         v1::RenderPromptResponse& response, const Done& done) const {
  absl::StatusOr<Job> job = Prepare(tenant, request);
  if (!job.ok()) return done(job.status());
  if (request.has_time_of_day()) job->question.time_of_day = request.time_of_day();
  Admit(*job, done, [this, job = *job, &response](const Done& rendered) {
    fleet_.Render(job.group, job.question,
                  [&response, model = job.model, rendered](const absl::StatusOr<Prompt>& prompt) {
                    if (prompt.ok()) {
                      ToWire(*prompt, &response);
                      response.set_model(model);
                    }
                    rendered(prompt.status());
                  });
  });
}

}  // namespace conclave::router
