#include "router/api/prompt_calls.h"

#include <utility>

#include "common/status.h"
#include "common/wire/grpc_status.h"
#include "common/wire/message_wire.h"
#include "common/wire/prompt_wire.h"
#include "router/api/request_parser.h"

namespace conclave::router {

template <typename Request>
absl::StatusOr<PromptCalls::Job> PromptCalls::Prepare(const absl::StatusOr<std::string>& tenant,
                                                      const Request& request) const {
  if (!tenant.ok()) return tenant.status();
  Job job;
  job.admission.tenant = *tenant;
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

void PromptCalls::Admit(const Job& job, grpc::ServerUnaryReactor* reactor, Work work) const {
  admission_.Admit(
      job.admission, clock_.Now(),
      [reactor, work = std::move(work)](absl::StatusOr<Ticket> ticket) {
        if (!ticket.ok()) return reactor->Finish(ToGrpc(ticket.status()));
        // Shared by the callback's copies.
        auto held = std::make_shared<Ticket>(*std::move(ticket));
        work([reactor, held](const absl::Status& status) { reactor->Finish(ToGrpc(status)); });
      });
}

grpc::ServerUnaryReactor* PromptCalls::Count(grpc::CallbackServerContext& context,
                                             const absl::StatusOr<std::string>& tenant,
                                             const v1::CountTokensRequest& request,
                                             v1::CountTokensResponse& response) const {
  grpc::ServerUnaryReactor* const reactor = context.DefaultReactor();
  absl::StatusOr<Job> job = Prepare(tenant, request);
  if (!job.ok()) {
    reactor->Finish(ToGrpc(job.status()));
    return reactor;
  }
  Admit(*job, reactor, [this, job = *job, &response](const auto& done) {
    fleet_.Count(job.group, job.question, [&response, done](absl::StatusOr<int> tokens) {
      if (tokens.ok()) response.set_tokens(*tokens);
      done(tokens.status());
    });
  });
  return reactor;
}

grpc::ServerUnaryReactor* PromptCalls::Render(grpc::CallbackServerContext& context,
                                              const absl::StatusOr<std::string>& tenant,
                                              const v1::RenderPromptRequest& request,
                                              v1::RenderPromptResponse& response) const {
  grpc::ServerUnaryReactor* const reactor = context.DefaultReactor();
  absl::StatusOr<Job> job = Prepare(tenant, request);
  if (!job.ok()) {
    reactor->Finish(ToGrpc(job.status()));
    return reactor;
  }
  if (request.has_time_of_day()) job->question.time_of_day = request.time_of_day();
  Admit(*job, reactor, [this, job = *job, &response](const auto& done) {
    fleet_.Render(job.group, job.question,
                  [&response, model = job.model, done](const absl::StatusOr<Prompt>& prompt) {
                    if (prompt.ok()) {
                      ToWire(*prompt, &response);
                      response.set_model(model);
                    }
                    done(prompt.status());
                  });
  });
  return reactor;
}

}  // namespace conclave::router
