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
#include "common/wire/raw_message.h"
#include "common/wire/unary_call.h"
#include "conclave/v1/conclave.grpc.pb.h"
#include "router/api/admission_question.h"
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

// The same, said of a field.
absl::Status OfField(const std::string& field, const absl::Status& status) {
  StatusDetails details = DetailsOf(status);
  details.fields.emplace_back(field, std::string(MessageOf(status)));
  return WithDetails(Annotate(status, field), details);
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

// All methods are raw: a request that cannot be read is refused in our words.
using RawService = v1::ConclaveService::WithRawCallbackMethod_Generate<
    v1::ConclaveService::WithRawCallbackMethod_GenerateOnce<
        v1::ConclaveService::WithRawCallbackMethod_ListModels<
            v1::ConclaveService::WithRawCallbackMethod_CountTokens<
                v1::ConclaveService::WithRawCallbackMethod_RenderPrompt<
                    v1::ConclaveService::WithRawCallbackMethod_Stop<
                        v1::ConclaveService::Service>>>>>>;

class ConclaveRpc::Service : public RawService {
 public:
  Service(ServiceOptions options, ServiceParts parts)
      : options_(options),
        parts_(std::move(parts)),
        metrics_(parts_.metrics, parts_.keys.tenants()),
        requests_(options.keep, parts_.metrics),
        prompts_(parts_.admission, parts_.fleet, parts_.clock) {}

  grpc::ServerWriteReactor<grpc::ByteBuffer>* Generate(grpc::CallbackServerContext* context,
                                                       const grpc::ByteBuffer* in) override;
  grpc::ServerUnaryReactor* GenerateOnce(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* in,
                                         grpc::ByteBuffer* out) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const grpc::ByteBuffer* in, grpc::ByteBuffer* out) override {
    return Answer<v1::ListModelsRequest, v1::ListModelsResponse>(
        *context, *in, *out, [this](const auto&, const auto&, auto& response, const auto& done) {
          ListModels(response);
          done(absl::OkStatus());
        });
  }
  grpc::ServerUnaryReactor* CountTokens(grpc::CallbackServerContext* context,
                                        const grpc::ByteBuffer* in,
                                        grpc::ByteBuffer* out) override {
    return Answer<v1::CountTokensRequest, v1::CountTokensResponse>(
        *context, *in, *out, [this](auto&... all) { prompts_.Count(all...); });
  }
  grpc::ServerUnaryReactor* RenderPrompt(grpc::CallbackServerContext* context,
                                         const grpc::ByteBuffer* in,
                                         grpc::ByteBuffer* out) override {
    return Answer<v1::RenderPromptRequest, v1::RenderPromptResponse>(
        *context, *in, *out, [this](auto&... all) { prompts_.Render(all...); });
  }
  // Takes no ticket: it ends work.
  grpc::ServerUnaryReactor* Stop(grpc::CallbackServerContext* context, const grpc::ByteBuffer* in,
                                 grpc::ByteBuffer* out) override {
    return Answer<v1::StopRequest, v1::StopResponse>(
        *context, *in, *out,
        [this](const auto& tenant, const auto& request, const auto&, const auto& done) {
          done(Stop(tenant, request.request_id()));
        });
  }
  void Sweep();
  void LetGo() { requests_.LetGo(); }

 private:
  class StreamReactor;
  class OnceReactor;

  absl::StatusOr<std::string> Authenticate(const grpc::CallbackServerContext& context) const;
  // Who calls, and with what; only the message of one who may call is read.
  absl::StatusOr<std::string> Receive(const grpc::CallbackServerContext& context,
                                      grpc::ByteBuffer bytes,
                                      google::protobuf::Message& message) const;
  // Does `work(tenant, request, response, done)` for one who may call.
  template <typename Request, typename Response, typename Work>
  grpc::ServerUnaryReactor* Answer(const grpc::CallbackServerContext& context,
                                   const grpc::ByteBuffer& in, grpc::ByteBuffer& out,
                                   const Work& work) const {
    const absl::StatusOr<std::string> tenant = Authenticate(context);
    return new UnaryCall<Request, Response>(
        tenant.status(), in, out, [&](const auto& request, auto& response, const auto& done) {
          work(*tenant, request, response, done);
        });
  }
  void ListModels(v1::ListModelsResponse& response) const;
  absl::Status Stop(const std::string& tenant, const std::string& id);
  // The call takes its stream up or enters, or is refused. What it has to wait for is named for
  // Admission::Withdraw; 0: nothing.
  uint64_t Begin(const absl::StatusOr<std::string>& tenant, const v1::GenerateRequest& wire,
                 const std::string& id, const std::shared_ptr<ClientCall>& call);
  // OK: the call is attached. kNotFound: no such request is held.
  absl::Status TakeUp(const RequestName& name, const HeldAnswer& held,
                      const std::shared_ptr<ClientCall>& call);
  absl::StatusOr<Plan> MakePlanOf(const v1::GenerateRequest& wire, const RequestName& name) const;
  absl::StatusOr<std::vector<ModelDescription>> FindOthers(const Request& request) const;
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

absl::StatusOr<std::string> ConclaveRpc::Service::Receive(
    const grpc::CallbackServerContext& context, grpc::ByteBuffer bytes,
    google::protobuf::Message& message) const {
  ASSIGN_OR_RETURN(std::string tenant, Authenticate(context));
  RETURN_IF_ERROR(ReadMessage(bytes, message));
  return tenant;
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
  ASSIGN_OR_RETURN(const std::vector<ModelDescription> others, FindOthers(request));
  if (request.aggregator_model.empty() || request.aggregator_model == model.name)
    return MakePlan(request, model, options_.limits, nullptr, others);
  const auto aggregator = parts_.fleet.FindModel(
      request.aggregator_model, request.replay ? request.replay->aggregator_fingerprint : "");
  if (!aggregator.ok()) return OfField("contemplation.aggregator_model", aggregator.status());
  return MakePlan(request, model, options_.limits, &*aggregator, others);
}

// The models of its agents, but for the first one, which is the request's own.
absl::StatusOr<std::vector<ModelDescription>> ConclaveRpc::Service::FindOthers(
    const Request& request) const {
  std::vector<ModelDescription> others;
  const std::vector<std::string>& names = request.agent_models;
  for (size_t i = 1; i < names.size(); ++i) {
    const auto here = names.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::find(names.begin(), here, names[i]) != here) continue;
    const bool told = request.replay && i < request.replay->agent_fingerprints.size();
    auto model =
        parts_.fleet.FindModel(names[i], told ? request.replay->agent_fingerprints[i] : "");
    if (!model.ok())
      return OfField(fmt::format("contemplation.agent_models[{}]", i), model.status());
    others.push_back(*std::move(model));
  }
  return others;
}

uint64_t ConclaveRpc::Service::Begin(const absl::StatusOr<std::string>& tenant,
                                     const v1::GenerateRequest& wire, const std::string& id,
                                     const std::shared_ptr<ClientCall>& call) {
  Prepared prepared;
  const absl::Status begun = [&]() -> absl::Status {
    RETURN_IF_ERROR(tenant.status());
    prepared.name = {.tenant = *tenant, .id = id};
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
  const AdmissionQuestion question = AdmissionOf(prepared.plan, prepared.name.tenant);
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
  const auto count =
      std::make_shared<RequestCount>(metrics_.Count(prepared.name.tenant, prepared.plan));
  return {.on_first_token = [count](absl::Duration after) { count->FirstToken(after); },
          .on_event = [count](const ClientEvent& event) { count->On(event); },
          .on_end =
              [this, count, id = prepared.name.id, resumes = prepared.terms.resume.has_value()](
                  const absl::Status& status, const Bill& bill) {
                count->Ended(status, bill);
                if (resumes && status.code() == absl::StatusCode::kAborted)
                  metrics_.ResumeRefused(status);
                parts_.log.Info("ended", {{"request", id},
                                          {"code", absl::StatusCodeToString(status.code())},
                                          {"tokens", bill.tokens},
                                          {"probe_tokens", bill.probe_tokens},
                                          {"prompt_tokens", bill.prompt.total},
                                          {"prompt_computed", bill.prompt.computed}});
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
class ConclaveRpc::Service::StreamReactor : public grpc::ServerWriteReactor<grpc::ByteBuffer> {
 public:
  StreamReactor(Service& service, grpc::CallbackServerContext& context, const grpc::ByteBuffer& in)
      : service_(service) {
    v1::GenerateRequest request;
    const auto tenant = service.Receive(context, in, request);
    const std::string id = IdOf(request);
    call_ = std::make_shared<ClientCall>(
        ClientCall::Transport{.write =
                                  [this](const v1::GenerateResponse* message) {
                                    WriteMessage(*message, out_);
                                    StartWrite(&out_);
                                  },
                              .finish = [this](const grpc::Status& status) { Finish(status); },
                              .cancel = [&context] { context.TryCancel(); }},
        service.parts_.clock, id);
    waiting_ = service.Begin(tenant, request, id, call_);
  }

  void OnWriteDone(bool ok) override { call_->OnWritten(ok); }
  void OnCancel() override {
    service_.parts_.admission.Withdraw(waiting_);
    call_->OnCancelled();
  }
  void OnDone() override { delete this; }

 private:
  Service& service_;
  grpc::ByteBuffer out_;              // Of the write in flight.
  std::shared_ptr<ClientCall> call_;  // Shared with the generation's wake-ups.
  std::atomic<uint64_t> waiting_ = 0;
};

grpc::ServerWriteReactor<grpc::ByteBuffer>* ConclaveRpc::Service::Generate(
    grpc::CallbackServerContext* context, const grpc::ByteBuffer* in) {
  return new StreamReactor(*this, *context, *in);
}

// Carries one request whose client waits for the end. Owns itself until OnDone.
class ConclaveRpc::Service::OnceReactor : public grpc::ServerUnaryReactor {
 public:
  OnceReactor(Service& service, grpc::CallbackServerContext& context, const grpc::ByteBuffer& in,
              grpc::ByteBuffer& out)
      : service_(service), out_(out) {
    v1::GenerateOnceRequest once;
    const auto tenant = service.Receive(context, in, once);
    v1::GenerateRequest& request = *once.mutable_request();
    request.clear_include();
    request.clear_top_logprobs();
    answer_bytes_ = request.resume().answer_bytes();
    const std::string id = IdOf(request);
    call_ = std::make_shared<ClientCall>(
        ClientCall::Transport{
            .write = [this](const v1::GenerateResponse* message) { Take(*message); },
            .finish = [this](const grpc::Status& status) { End(status); },
            .cancel = [&context] { context.TryCancel(); }},
        service.parts_.clock, id);
    waiting_ = service.Begin(tenant, request, id, call_);
  }

  void OnCancel() override {
    service_.parts_.admission.Withdraw(waiting_);
    call_->OnCancelled();
  }
  void OnDone() override { delete this; }

 private:
  void Take(const v1::GenerateResponse& message) {
    answer_bytes_ += static_cast<int64_t>(message.answer_delta().text().size());
    if (message.has_completed()) *response_.mutable_completed() = message.completed();
    // Not from within: the call's turn must end first.
    service_.parts_.tasks.Post([call = call_] { call->OnWritten(true); });
  }

  void End(const grpc::Status& status) {
    if (status.ok() && answer_bytes_ > static_cast<int64_t>(kMostAnswerTold)) {
      return Finish(ToGrpc(
          OutOfRange("the answer has {} bytes; GenerateOnce gives at most {}, Generate streams all",
                     answer_bytes_, kMostAnswerTold)));
    }
    if (status.ok()) WriteMessage(response_, out_);
    Finish(status);
  }

  Service& service_;
  grpc::ByteBuffer& out_;
  v1::GenerateOnceResponse response_;
  int64_t answer_bytes_ = 0;          // Of the whole answer, as far as it is known.
  std::shared_ptr<ClientCall> call_;  // Shared with the generation's wake-ups.
  std::atomic<uint64_t> waiting_ = 0;
};

grpc::ServerUnaryReactor* ConclaveRpc::Service::GenerateOnce(grpc::CallbackServerContext* context,
                                                             const grpc::ByteBuffer* in,
                                                             grpc::ByteBuffer* out) {
  return new OnceReactor(*this, *context, *in, *out);
}

void ConclaveRpc::Service::ListModels(v1::ListModelsResponse& response) const {
  std::map<std::string, v1::Model*> by_fingerprint;
  for (const GroupView& group : parts_.fleet.View()) {
    if (group.description == nullptr) continue;
    const ModelDescription& description = group.description->model;
    v1::Model*& model = by_fingerprint[description.fingerprint];
    if (model == nullptr) {
      model = response.add_models();
      *model->mutable_description() = conclave::ToWire(description);
      model->add_modes(v1::MODE_INSTANT);
      if (description.profile.thinks) model->add_modes(v1::MODE_THINKING);
      model->add_modes(v1::MODE_CONTEMPLATING);
      model->set_max_agents(std::min(options_.limits.max_agents, description.max_agents));
    }
    model->set_groups(model->groups() + 1);
    if (group.ready()) model->set_groups_ready(model->groups_ready() + 1);
  }
}

absl::Status ConclaveRpc::Service::Stop(const std::string& tenant, const std::string& id) {
  RETURN_IF_ERROR(CheckRequestId(id));
  return requests_.Stop({.tenant = tenant, .id = id});
}

ConclaveRpc::ConclaveRpc(ServiceOptions options, ServiceParts parts)
    : service_(std::make_unique<Service>(options, std::move(parts))) {}
ConclaveRpc::~ConclaveRpc() = default;
grpc::Service* ConclaveRpc::rpc() { return service_.get(); }
void ConclaveRpc::Sweep() { service_->Sweep(); }
void ConclaveRpc::LetGo() { service_->LetGo(); }

}  // namespace conclave::router
