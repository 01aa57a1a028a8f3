#include "router/api/conclave_service.h"

#include <openssl/rand.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/status.h"
#include "common/status_details.h"
#include "common/wire/grpc_status.h"
#include "common/wire/message_wire.h"
#include "common/wire/model_wire.h"
#include "conclave/v1/conclave.grpc.pb.h"
#include "router/api/client_call.h"
#include "router/api/event_wire.h"
#include "router/api/kept_requests.h"
#include "router/api/prompt_calls.h"
#include "router/api/request_metrics.h"
#include "router/api/request_parser.h"

namespace conclave::router {
namespace {

uint64_t Draw() {
  unsigned char bytes[8];
  uint64_t number = 0;
  CHECK(RAND_bytes(bytes, sizeof bytes) == 1);
  std::memcpy(&number, bytes, sizeof number);
  return number;
}

// The caller's name of its request, or a drawn one; also of one that is refused for its name.
std::string IdOf(const v1::GenerateRequest& request) {
  return IsRequestId(request.request_id()) ? request.request_id() : fmt::format("{:016x}", Draw());
}

// A request that passed the checks.
struct Prepared {
  RequestName name;
  StreamTerms terms;
  Plan plan;
};

// What to do when a stream can't be taken up by its name alone.
absl::Status NotHeld(const std::string& id) {
  return NotFound(
      "request {} is not held here: its keep_for is over, or another router had it; resume it with "
      "its messages and seed, and it is run again",
      id);
}

}  // namespace

class ConclaveRpc::Service : public v1::ConclaveService::CallbackService {
 public:
  Service(ServiceOptions options, ServiceParts parts)
      : options_(options),
        parts_(std::move(parts)),
        metrics_(parts_.metrics, parts_.keys.tenants()),
        requests_(options.keep, parts_.metrics),
        prompts_(parts_.admission, parts_.fleet, parts_.clock) {}

  grpc::ServerWriteReactor<v1::GenerateResponse>* Generate(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* GenerateOnce(grpc::CallbackServerContext* context,
                                         const v1::GenerateOnceRequest* request,
                                         v1::GenerateOnceResponse* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest*,
                                       v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* CountTokens(grpc::CallbackServerContext* context,
                                        const v1::CountTokensRequest* request,
                                        v1::CountTokensResponse* response) override {
    return prompts_.Count(*context, Authenticate(*context), *request, *response);
  }
  grpc::ServerUnaryReactor* RenderPrompt(grpc::CallbackServerContext* context,
                                         const v1::RenderPromptRequest* request,
                                         v1::RenderPromptResponse* response) override {
    return prompts_.Render(*context, Authenticate(*context), *request, *response);
  }
  grpc::ServerUnaryReactor* Stop(grpc::CallbackServerContext* context,
                                 const v1::StopRequest* request, v1::StopResponse*) override;
  void Sweep();
  void LetGo() { requests_.LetGo(); }

 private:
  class StreamReactor;
  class OnceReactor;

  absl::StatusOr<std::string> Authenticate(const grpc::CallbackServerContext& context) const;
  // The call takes its stream up or enters, or is refused. What it has to wait for is named for
  // Admission::Withdraw; 0: nothing.
  uint64_t Begin(const grpc::CallbackServerContext& context, const v1::GenerateRequest& wire,
                 const std::string& id, const std::shared_ptr<ClientCall>& call);
  // OK: the call is attached. kNotFound: no such request is held.
  absl::Status TakeUp(const RequestName& name, const HeldAnswer& held,
                      const std::shared_ptr<ClientCall>& call);
  absl::StatusOr<Plan> MakePlanOf(const v1::GenerateRequest& wire, const RequestName& name) const;
  void Start(const Prepared& prepared, Ticket ticket, const std::shared_ptr<ClientCall>& call);
  GenerationHooks HooksOf(const Prepared& prepared);
  void Attach(const std::shared_ptr<ClientCall>& call, const RequestName& name,
              std::shared_ptr<Generation> generation, int client);
  void Refuse(const std::shared_ptr<ClientCall>& call, const std::string& id,
              const absl::Status& why);
  void Refuse(const Prepared& prepared, const std::shared_ptr<ClientCall>& call,
              const absl::Status& why);
  void Register(const std::shared_ptr<ClientCall>& call);

  const ServiceOptions options_;
  const ServiceParts parts_;
  RequestMetrics metrics_;
  KeptRequests requests_;
  const PromptCalls prompts_;
  absl::Mutex mutex_;
  std::vector<std::weak_ptr<ClientCall>> calls_ ABSL_GUARDED_BY(mutex_);
};

absl::StatusOr<std::string> ConclaveRpc::Service::Authenticate(
    const grpc::CallbackServerContext& context) const {
  const auto& metadata = context.client_metadata();
  const auto found = metadata.find("authorization");
  const std::string_view value =
      found == metadata.end() ? "" : std::string_view(found->second.data(), found->second.size());
  return parts_.keys.Authenticate(value);
}

absl::StatusOr<Plan> ConclaveRpc::Service::MakePlanOf(const v1::GenerateRequest& wire,
                                                      const RequestName& name) const {
  const RequestDraws draws{
      .seed = Draw(), .id = name.id, .time_of_day = absl::ToUnixSeconds(parts_.clock.Now())};
  ASSIGN_OR_RETURN(Request request, ParseRequest(wire, draws));
  request.salt = name.tenant;
  const std::string fingerprint = request.replay ? request.replay->fingerprint : "";
  ASSIGN_OR_RETURN(const ModelDescription model,
                   parts_.fleet.FindModel(request.model, fingerprint));
  return MakePlan(request, model, options_.limits);
}

uint64_t ConclaveRpc::Service::Begin(const grpc::CallbackServerContext& context,
                                     const v1::GenerateRequest& wire, const std::string& id,
                                     const std::shared_ptr<ClientCall>& call) {
  Prepared prepared;
  const absl::Status begun = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(const std::string tenant, Authenticate(context));
    prepared.name = {.tenant = tenant, .id = id};
    ASSIGN_OR_RETURN(prepared.terms, ParseStreamTerms(wire, options_.keep.longest));
    if (prepared.terms.resume) {
      const absl::Status taken = TakeUp(prepared.name, *prepared.terms.resume, call);
      if (taken.code() != absl::StatusCode::kNotFound) return taken;
      if (wire.messages().empty()) return NotHeld(id);
      if (prepared.terms.resume->bytes > 0 && !wire.has_seed() && !wire.has_replay()) {
        return BadField("seed", "is missing; without it the answer would be another one");
      }
    }
    RETURN_IF_ERROR(requests_.CheckNew(prepared.name));
    ASSIGN_OR_RETURN(prepared.plan, MakePlanOf(wire, prepared.name));
    return absl::OkStatus();
  }();
  if (!begun.ok() && prepared.terms.resume) metrics_.ResumeRefused(begun);
  if (!begun.ok()) {
    metrics_.Refused(begun);
    Refuse(call, id, begun);
  }
  if (prepared.plan.agents.empty()) return 0;  // Refused, or taken up.
  Register(call);
  const AdmissionQuestion question{.tenant = prepared.name.tenant,
                                   .agents = static_cast<int>(prepared.plan.agents.size()),
                                   .tokens = prepared.plan.total_tokens};
  const absl::Time arrived = parts_.clock.Now();
  return parts_.admission.Admit(
      question, arrived,
      [this, call, arrived, prepared = std::move(prepared)](absl::StatusOr<Ticket> ticket) {
        if (!ticket.ok()) return Refuse(prepared, call, ticket.status());
        metrics_.Waited(parts_.clock.Now() - arrived);
        Start(prepared, *std::move(ticket), call);
      });
}

absl::Status ConclaveRpc::Service::TakeUp(const RequestName& name, const HeldAnswer& held,
                                          const std::shared_ptr<ClientCall>& call) {
  ASSIGN_OR_RETURN(KeptRequests::TakenUp taken,
                   requests_.TakeUp(name, held, [weak = std::weak_ptr<ClientCall>(call)] {
                     if (const auto alive = weak.lock()) alive->Wake();
                   }));
  metrics_.Resumed("reattached");
  parts_.log.Info("resumed", {{"request", name.id}, {"tenant", name.tenant}});
  Register(call);
  Attach(call, name, std::move(taken.generation), taken.client);
  return absl::OkStatus();
}

void ConclaveRpc::Service::Start(const Prepared& prepared, Ticket ticket,
                                 const std::shared_ptr<ClientCall>& call) {
  const GenerationParts parts{parts_.fleet, parts_.tasks, parts_.timers, parts_.clock,
                              options_.place_patience};
  LogPlace log;
  if (prepared.terms.keep_for > absl::ZeroDuration()) log = {&requests_, prepared.name.tenant};
  // Shared: it may outlive the call.
  auto generation = std::make_shared<Generation>(
      parts, prepared.plan, options_.limits, std::move(ticket), HooksOf(prepared), std::move(log));
  const auto attached =
      generation->Attach(prepared.terms.resume, [weak = std::weak_ptr<ClientCall>(call)] {
        if (const auto alive = weak.lock()) alive->Wake();
      });
  CHECK(attached.ok());  // The first one.
  const absl::Status added = requests_.Add(prepared.name, generation, prepared.terms.keep_for);
  if (!added.ok()) return Refuse(prepared, call, added);
  if (prepared.terms.resume) metrics_.Resumed("run_again");
  parts_.log.Info("admitted", {{"request", prepared.name.id},
                               {"tenant", prepared.name.tenant},
                               {"mode", NameOf(prepared.plan.mode)},
                               {"agents", prepared.plan.agents.size()}});
  Attach(call, prepared.name, std::move(generation), attached->client);
}

GenerationHooks ConclaveRpc::Service::HooksOf(const Prepared& prepared) {
  // Shared by the hooks.
  const auto count = std::make_shared<RequestCount>(
      metrics_.Count(prepared.name.tenant, prepared.plan.model, prepared.plan.mode));
  return {.on_first_token = [count](absl::Duration after) { count->FirstToken(after); },
          .on_event = [count](const ClientEvent& event) { count->On(event); },
          .on_end =
              [this, count, id = prepared.name.id, resumes = prepared.terms.resume.has_value()](
                  const absl::Status& status, int64_t tokens) {
                count->Ended(status, tokens);
                if (resumes && status.code() == absl::StatusCode::kAborted)
                  metrics_.ResumeRefused(status);
                parts_.log.Info(
                    "ended", {{"request", id}, {"code", absl::StatusCodeToString(status.code())}});
              }};
}

void ConclaveRpc::Service::Attach(const std::shared_ptr<ClientCall>& call, const RequestName& name,
                                  std::shared_ptr<Generation> generation, int client) {
  call->Attach(generation, client, [this, name, generation, client] {
    requests_.ClientGone(name, generation, client, parts_.clock.Now());
  });
}

void ConclaveRpc::Service::Refuse(const Prepared& prepared, const std::shared_ptr<ClientCall>& call,
                                  const absl::Status& why) {
  metrics_.Refused(prepared.plan.model, prepared.plan.mode, why);
  Refuse(call, prepared.name.id, why);
}

void ConclaveRpc::Service::Refuse(const std::shared_ptr<ClientCall>& call, const std::string& id,
                                  const absl::Status& why) {
  parts_.log.Info("refused", {{"request", id}, {"code", absl::StatusCodeToString(why.code())}});
  call->Refuse(why);
}

void ConclaveRpc::Service::Register(const std::shared_ptr<ClientCall>& call) {
  absl::MutexLock lock(&mutex_);
  calls_.push_back(call);
}

void ConclaveRpc::Service::Sweep() {
  parts_.admission.Expire(parts_.clock.Now());
  requests_.Expire(parts_.clock.Now());
  metrics_.SetAdmission(parts_.admission.running(), parts_.admission.queued());
  int groups_ready = 0;
  for (const GroupView& group : parts_.fleet.View()) {
    if (group.description) metrics_.Meet(group.description->model.name);
    groups_ready += group.ready() ? 1 : 0;
  }
  metrics_.SetGroupsReady(groups_ready);
  std::vector<std::shared_ptr<ClientCall>> alive;
  {
    absl::MutexLock lock(&mutex_);
    for (const auto& weak : calls_) {
      if (auto call = weak.lock()) alive.push_back(std::move(call));
    }
    calls_.assign(alive.begin(), alive.end());
  }
  for (const auto& call : alive) call->CheckStall(options_.client_stall);
}

// Carries one streamed request. Owns itself until OnDone.
class ConclaveRpc::Service::StreamReactor : public grpc::ServerWriteReactor<v1::GenerateResponse> {
 public:
  StreamReactor(Service& service, grpc::CallbackServerContext& context,
                const v1::GenerateRequest& request)
      : service_(service) {
    const std::string id = IdOf(request);
    call_ = std::make_shared<ClientCall>(
        ClientCall::Transport{
            .write = [this](const v1::GenerateResponse* message) { StartWrite(message); },
            .finish = [this](const grpc::Status& status) { Finish(status); },
            .cancel = [&context] { context.TryCancel(); }},
        service.parts_.clock, id);
    waiting_ = service.Begin(context, request, id, call_);
  }

  void OnWriteDone(bool ok) override { call_->OnWritten(ok); }
  void OnCancel() override {
    service_.parts_.admission.Withdraw(waiting_);
    call_->OnCancelled();
  }
  void OnDone() override { delete this; }

 private:
  Service& service_;
  std::shared_ptr<ClientCall> call_;  // Shared with the generation's wake-ups.
  std::atomic<uint64_t> waiting_ = 0;
};

grpc::ServerWriteReactor<v1::GenerateResponse>* ConclaveRpc::Service::Generate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  return new StreamReactor(*this, *context, *request);
}

// Carries one request whose client waits for the end. Owns itself until OnDone.
class ConclaveRpc::Service::OnceReactor : public grpc::ServerUnaryReactor {
 public:
  OnceReactor(Service& service, grpc::CallbackServerContext& context,
              const v1::GenerateRequest& wire, v1::GenerateOnceResponse& response)
      : service_(service) {
    v1::GenerateRequest request = wire;
    request.clear_include();
    request.clear_top_logprobs();
    const std::string id = IdOf(request);
    call_ = std::make_shared<ClientCall>(
        ClientCall::Transport{
            .write = [this,
                      &response](const v1::GenerateResponse* message) { Take(*message, response); },
            .finish = [this](const grpc::Status& status) { Finish(status); },
            .cancel = [&context] { context.TryCancel(); }},
        service.parts_.clock, id);
    waiting_ = service.Begin(context, request, id, call_);
  }

  void OnCancel() override {
    service_.parts_.admission.Withdraw(waiting_);
    call_->OnCancelled();
  }
  void OnDone() override { delete this; }

 private:
  void Take(const v1::GenerateResponse& message, v1::GenerateOnceResponse& response) {
    if (message.has_completed()) *response.mutable_completed() = message.completed();
    // Not from within: the call's turn must end first.
    service_.parts_.tasks.Post([call = call_] { call->OnWritten(true); });
  }

  Service& service_;
  std::shared_ptr<ClientCall> call_;  // Shared with the generation's wake-ups.
  std::atomic<uint64_t> waiting_ = 0;
};

grpc::ServerUnaryReactor* ConclaveRpc::Service::GenerateOnce(grpc::CallbackServerContext* context,
                                                             const v1::GenerateOnceRequest* request,
                                                             v1::GenerateOnceResponse* response) {
  return new OnceReactor(*this, *context, request->request(), *response);
}

grpc::ServerUnaryReactor* ConclaveRpc::Service::ListModels(grpc::CallbackServerContext* context,
                                                           const v1::ListModelsRequest*,
                                                           v1::ListModelsResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const auto tenant = Authenticate(*context);
  if (!tenant.ok()) {
    reactor->Finish(ToGrpc(tenant.status()));
    return reactor;
  }
  std::map<std::string, v1::Model*> by_fingerprint;
  for (const GroupView& group : parts_.fleet.View()) {
    if (group.description == nullptr) continue;
    const ModelDescription& description = group.description->model;
    v1::Model*& model = by_fingerprint[description.fingerprint];
    if (model == nullptr) {
      model = response->add_models();
      *model->mutable_description() = conclave::ToWire(description);
      model->add_modes(v1::MODE_INSTANT);
      if (description.profile.thinks) model->add_modes(v1::MODE_THINKING);
      model->add_modes(v1::MODE_CONTEMPLATING);
      model->set_max_agents(std::min(options_.limits.max_agents, description.max_agents));
    }
    model->set_groups(model->groups() + 1);
    if (group.ready()) model->set_groups_ready(model->groups_ready() + 1);
  }
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

// Takes no ticket: it ends work.
grpc::ServerUnaryReactor* ConclaveRpc::Service::Stop(grpc::CallbackServerContext* context,
                                                     const v1::StopRequest* request,
                                                     v1::StopResponse*) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const absl::Status stopped = [&]() -> absl::Status {
    ASSIGN_OR_RETURN(const std::string tenant, Authenticate(*context));
    RETURN_IF_ERROR(CheckRequestId(request->request_id()));
    return requests_.Stop({.tenant = tenant, .id = request->request_id()});
  }();
  reactor->Finish(ToGrpc(stopped));
  return reactor;
}

ConclaveRpc::ConclaveRpc(ServiceOptions options, ServiceParts parts)
    : service_(std::make_unique<Service>(options, std::move(parts))) {}
ConclaveRpc::~ConclaveRpc() = default;
grpc::Service* ConclaveRpc::rpc() { return service_.get(); }
void ConclaveRpc::Sweep() { service_->Sweep(); }
void ConclaveRpc::LetGo() { service_->LetGo(); }

}  // namespace conclave::router
