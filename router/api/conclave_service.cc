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

const char* ModeName(Mode mode) {
  return mode == Mode::kInstant    ? "instant"
         : mode == Mode::kThinking ? "thinking"
                                   : "contemplating";
}

std::string CodeName(const absl::Status& status) { return absl::StatusCodeToString(status.code()); }

// A request that passed the checks: who asks, and what is planned.
struct Prepared {
  std::string tenant;
  Plan plan;
  AdmissionQuestion question;
};

}  // namespace

class ConclaveRpc::Service : public v1::ConclaveService::CallbackService {
 public:
  Service(ServiceOptions options, ServiceParts parts)
      : options_(options),
        parts_(std::move(parts)),
        running_(parts_.metrics.AddGauge("conclave_requests_running", "Requests that run.")),
        queued_(
            parts_.metrics.AddGauge("conclave_requests_queued", "Requests that wait to enter.")),
        duration_(parts_.metrics.AddHistogram("conclave_request_duration_seconds",
                                              "From admission to the end.", DurationBounds())),
        first_answer_(parts_.metrics.AddHistogram("conclave_time_to_first_answer_seconds",
                                                  "From admission to the first byte of the answer.",
                                                  DurationBounds())) {}

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
                                        v1::CountTokensResponse* response) override;
  void Sweep();

 private:
  class StreamReactor;
  class OnceReactor;

  // A CountTokens call that passed the checks.
  struct CountJob {
    AdmissionQuestion admission;
    CountQuestion question;
    int group = 0;
  };
  absl::StatusOr<CountJob> PrepareCount(const grpc::CallbackServerContext& context,
                                        const v1::CountTokensRequest& request) const;
  absl::StatusOr<std::string> Authenticate(const grpc::CallbackServerContext& context) const;
  absl::StatusOr<Prepared> Prepare(const grpc::CallbackServerContext& context,
                                   const v1::GenerateRequest& request, const std::string& drawn_id);
  // Admission, then a generation that is attached to the call; or the call is refused.
  uint64_t Enter(Prepared prepared, const std::shared_ptr<ClientCall>& call);
  void Ended(const std::string& mode, const absl::Status& status);
  void Account(const v1::Completed& completed);
  void Register(const std::shared_ptr<ClientCall>& call);

  const ServiceOptions options_;
  const ServiceParts parts_;
  Gauge running_, queued_;
  Histogram duration_, first_answer_;
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

absl::StatusOr<Prepared> ConclaveRpc::Service::Prepare(const grpc::CallbackServerContext& context,
                                                       const v1::GenerateRequest& wire,
                                                       const std::string& drawn_id) {
  Prepared prepared;
  ASSIGN_OR_RETURN(prepared.tenant, Authenticate(context));
  const RequestDraws draws{
      .seed = Draw(), .id = drawn_id, .time_of_day = absl::ToUnixSeconds(parts_.clock.Now())};
  ASSIGN_OR_RETURN(Request request, ParseRequest(wire, draws));
  request.salt = prepared.tenant;
  const std::string fingerprint = request.replay ? request.replay->fingerprint : "";
  ASSIGN_OR_RETURN(const ModelDescription model,
                   parts_.fleet.FindModel(request.model, fingerprint));
  ASSIGN_OR_RETURN(prepared.plan, MakePlan(request, model, options_.limits));
  prepared.question.tenant = prepared.tenant;
  prepared.question.agents = static_cast<int>(prepared.plan.agents.size());
  prepared.question.tokens = prepared.plan.total_tokens;
  return prepared;
}

uint64_t ConclaveRpc::Service::Enter(Prepared prepared, const std::shared_ptr<ClientCall>& call) {
  const AdmissionQuestion question = prepared.question;
  Register(call);
  return parts_.admission.Admit(
      question, parts_.clock.Now(),
      [this, call, prepared = std::move(prepared)](absl::StatusOr<Ticket> ticket) {
        const std::string mode = ModeName(prepared.plan.mode);
        if (!ticket.ok()) {
          Ended(mode, ticket.status());
          return call->Refuse(ticket.status());
        }
        const GenerationParts parts{parts_.fleet, parts_.tasks, parts_.timers, parts_.clock,
                                    options_.place_patience};
        // The generation may outlive the call for a moment.
        auto generation =
            std::make_shared<Generation>(parts, prepared.plan, options_.limits, *std::move(ticket),
                                         [weak = std::weak_ptr<ClientCall>(call)] {
                                           if (const auto alive = weak.lock()) alive->Wake();
                                         });
        parts_.log.Info("admitted", {{"request", prepared.plan.request.id},
                                     {"tenant", prepared.tenant},
                                     {"mode", mode},
                                     {"agents", prepared.question.agents}});
        call->Attach(std::move(generation));
      });
}

void ConclaveRpc::Service::Register(const std::shared_ptr<ClientCall>& call) {
  absl::MutexLock lock(&mutex_);
  calls_.push_back(call);
}

void ConclaveRpc::Service::Sweep() {
  parts_.admission.Expire(parts_.clock.Now());
  running_.Set(parts_.admission.running());
  queued_.Set(parts_.admission.queued());
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

void ConclaveRpc::Service::Ended(const std::string& mode, const absl::Status& status) {
  parts_.metrics
      .AddCounter("conclave_requests_total", "Requests that ended, by mode and status.",
                  {{"mode", mode}, {"code", CodeName(status)}})
      .Add();
}

void ConclaveRpc::Service::Account(const v1::Completed& completed) {
  const v1::Receipt& receipt = completed.receipt();
  const auto seconds = [](const google::protobuf::Duration& d) {
    return static_cast<double>(d.seconds()) + 1e-9 * d.nanos();
  };
  duration_.Observe(seconds(receipt.wall_time()));
  first_answer_.Observe(seconds(receipt.time_to_first_answer()));
  const auto tokens = [this](const char* kind, int64_t count) {
    parts_.metrics
        .AddCounter("conclave_tokens_total", "Tokens of ended requests, by what became of them.",
                    {{"kind", kind}})
        .Add(static_cast<double>(count));
  };
  tokens("thinking", receipt.thinking_tokens());
  tokens("answer", receipt.answer_tokens());
  tokens("aggregation", receipt.aggregation_tokens());
  tokens("discarded", receipt.discarded_tokens());
  tokens("prompt_computed", receipt.prompt().computed());
  tokens("prompt_shared", receipt.prompt().shared());
  const auto agents = [this](const char* outcome, int count) {
    parts_.metrics
        .AddCounter("conclave_agents_total", "Agents of ended requests, by outcome.",
                    {{"outcome", outcome}})
        .Add(count);
  };
  agents("cut", receipt.agents_cut());
  agents("finished", receipt.agents_size() - receipt.agents_cut());
}

// Carries one streamed request. Owns itself until OnDone.
class ConclaveRpc::Service::StreamReactor : public grpc::ServerWriteReactor<v1::GenerateResponse> {
 public:
  StreamReactor(Service& service, grpc::CallbackServerContext& context,
                const v1::GenerateRequest& request)
      : service_(service), context_(context) {
    const std::string id = fmt::format("{:016x}", Draw());
    auto prepared = service.Prepare(context, request, id);
    const std::string shown = prepared.ok() ? prepared->plan.request.id : id;
    if (prepared.ok()) mode_ = ModeName(prepared->plan.mode);
    call_ = std::make_shared<ClientCall>(
        ClientCall::Transport{.write =
                                  [this](const v1::GenerateResponse* message) {
                                    if (message->has_completed())
                                      service_.Account(message->completed());
                                    StartWrite(message);
                                  },
                              .finish = [this](const grpc::Status& status) { End(status); },
                              .cancel = [&context] { context.TryCancel(); }},
        service.parts_.clock, shown);
    id_ = shown;
    if (prepared.ok()) {
      waiting_ = service.Enter(*std::move(prepared), call_);
    } else {
      call_->Refuse(prepared.status());
    }
  }

  void OnWriteDone(bool ok) override { call_->OnWritten(ok); }
  void OnCancel() override {
    service_.parts_.admission.Withdraw(waiting_);
    call_->OnCancelled();
  }
  void OnDone() override { delete this; }

 private:
  void End(const grpc::Status& status) {
    service_.Ended(mode_, FromGrpc(status));
    service_.parts_.log.Info("ended", {{"request", id_}, {"code", CodeName(FromGrpc(status))}});
    Finish(status);
  }

  Service& service_;
  grpc::CallbackServerContext& context_;
  std::string mode_ = "unknown", id_;
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
    const std::string id = fmt::format("{:016x}", Draw());
    auto prepared = service.Prepare(context, request, id);
    if (prepared.ok()) mode_ = ModeName(prepared->plan.mode);
    call_ = std::make_shared<ClientCall>(
        ClientCall::Transport{.write =
                                  [this, &response](const v1::GenerateResponse* message) {
                                    if (message->has_completed()) {
                                      service_.Account(message->completed());
                                      *response.mutable_completed() = message->completed();
                                    }
                                    // Not from within: the call's turn must end first.
                                    service_.parts_.tasks.Post(
                                        [call = call_] { call->OnWritten(true); });
                                  },
                              .finish =
                                  [this](const grpc::Status& status) {
                                    service_.Ended(mode_, FromGrpc(status));
                                    Finish(status);
                                  },
                              .cancel = [&context] { context.TryCancel(); }},
        service.parts_.clock, prepared.ok() ? prepared->plan.request.id : id);
    if (prepared.ok()) {
      waiting_ = service.Enter(*std::move(prepared), call_);
    } else {
      call_->Refuse(prepared.status());
    }
  }

  void OnCancel() override {
    service_.parts_.admission.Withdraw(waiting_);
    call_->OnCancelled();
  }
  void OnDone() override { delete this; }

 private:
  Service& service_;
  std::string mode_ = "unknown";
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
    if (group.ready()) model->set_groups_ready(model->groups_ready() + 1);
  }
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

absl::StatusOr<ConclaveRpc::Service::CountJob> ConclaveRpc::Service::PrepareCount(
    const grpc::CallbackServerContext& context, const v1::CountTokensRequest& request) const {
  CountJob job;
  ASSIGN_OR_RETURN(job.admission.tenant, Authenticate(context));
  RETURN_IF_ERROR(CheckModelName(request.model()));
  if (!v1::Mode_IsValid(request.mode())) {
    return BadField("mode", fmt::format("has no value {}", static_cast<int>(request.mode())));
  }
  ASSIGN_OR_RETURN(job.question.messages, conclave::FromWire(request.messages(), "messages"));
  ASSIGN_OR_RETURN(const ModelDescription model, parts_.fleet.FindModel(request.model()));
  const bool thinks = model.profile.thinks && request.mode() != v1::MODE_INSTANT;
  job.question.thinking = thinks ? Thinking::kOn : Thinking::kOff;
  job.question.time_of_day = absl::ToUnixSeconds(parts_.clock.Now());
  job.admission.tokens = EstimateTokens(job.question.messages);
  job.admission.may_wait = false;
  const std::vector<GroupView> groups = parts_.fleet.View();
  for (size_t i = 0; i < groups.size(); ++i) {
    const bool serves = groups[i].description && groups[i].description->model.name == model.name;
    if (!groups[i].reachable || !serves) continue;
    job.group = static_cast<int>(i);
    return job;
  }
  return parts_.fleet.WhyNot({.model = model.name, .fingerprint = "", .agents = 1});
}

// It is work too: rendering and tokenising take a ticket while they last.
grpc::ServerUnaryReactor* ConclaveRpc::Service::CountTokens(grpc::CallbackServerContext* context,
                                                            const v1::CountTokensRequest* request,
                                                            v1::CountTokensResponse* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  absl::StatusOr<CountJob> job = PrepareCount(*context, *request);
  if (!job.ok()) {
    reactor->Finish(ToGrpc(job.status()));
    return reactor;
  }
  parts_.admission.Admit(job->admission, parts_.clock.Now(),
                         [this, reactor, response, job = *job](absl::StatusOr<Ticket> ticket) {
                           if (!ticket.ok()) return reactor->Finish(ToGrpc(ticket.status()));
                           // Shared by the callback's copies.
                           auto held = std::make_shared<Ticket>(*std::move(ticket));
                           parts_.fleet.client(job.group).Count(
                               job.question, [reactor, response, held](absl::StatusOr<int> tokens) {
                                 if (tokens.ok()) response->set_tokens(*tokens);
                                 reactor->Finish(ToGrpc(tokens.status()));
                               });
                         });
  return reactor;
}

ConclaveRpc::ConclaveRpc(ServiceOptions options, ServiceParts parts)
    : service_(std::make_unique<Service>(options, std::move(parts))) {}
ConclaveRpc::~ConclaveRpc() = default;
grpc::Service* ConclaveRpc::rpc() { return service_.get(); }
void ConclaveRpc::Sweep() { service_->Sweep(); }

}  // namespace conclave::router
