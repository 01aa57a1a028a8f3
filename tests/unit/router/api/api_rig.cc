#include "tests/unit/router/api/api_rig.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

namespace conclave::router {
namespace {

GroupDescription Describe(const std::string& name, const std::string& fingerprint = "f00d") {
  GroupDescription description;
  ModelDescription& model = description.model;
  model.name = name;
  model.fingerprint = fingerprint;
  model.numerics = "fake";
  model.max_positions = 4096;
  model.max_agents = 64;
  model.kv_tokens = 1 << 20;
  model.decision_version = kDecisionVersion;
  model.vocabulary = 1000;
  model.profile.answer_key = {AnswerKeySpec::Kind::kAnswerLine, ""};
  model.profile.aggregate_text = "{question}\n{candidates}";
  model.profile.candidate_line = "{index}. {answer}\n";
  model.profile.thinks = true;
  model.profile.end_thinking_tokens = 1;
  model.profile.thinking_tokens = 64;
  model.profile.answer_tokens = 64;
  description.epoch = 1;
  return description;
}

}  // namespace

FakeSpeech ThirdOfIndex(AgentId agent) {
  if (StageOf(agent) == kAggregateStage) return {{"so"}, {"Answer:", " merged"}};
  return {{"well ", "let ", "me ", "see ", "now"},
          {"Answer:", " ", std::to_string(IndexOf(agent) / 3)}};
}

RigOptions WithTenants(std::initializer_list<const char*> names) {
  RigOptions options;
  for (const char* name : names) {
    TenantOptions tenant;
    tenant.name = name;
    tenant.keys = {DigestOf(name)};
    options.admission.tenants.push_back(tenant);
  }
  return options;
}

ApiRig::ApiRig(RigOptions options) : ApiRig(std::move(options), ThirdOfIndex) {}

ApiRig::ApiRig(RigOptions options, std::function<FakeSpeech(AgentId)> speech)
    : keys_(*Keys::Make(options.admission.tenants)), admission_(options.admission) {
  auto worker = std::make_unique<FakeWorker>(Describe(options.model), options.credits, speech);
  worker_ = worker.get();
  std::vector<FleetMember> members;
  members.push_back({.address = "fake:1", .client = std::move(worker)});
  if (!options.other_model.empty()) {
    auto other = std::make_unique<FakeWorker>(Describe(options.other_model, "beef"),
                                              options.credits, std::move(speech));
    other_worker_ = other.get();
    members.push_back({.address = "fake:2", .client = std::move(other)});
  }
  const Logger logger({}, [this](std::string_view line) {
    absl::MutexLock lock(&mutex_);
    log_.emplace_back(line);
  });
  fleet_ = std::make_unique<Fleet>(std::move(members), logger, metrics_, clock_);
  tasks_ = std::make_unique<TaskPool>(2);
  rpc_ = std::make_unique<ConclaveRpc>(options.service, ServiceParts{.keys = keys_,
                                                                     .admission = admission_,
                                                                     .fleet = *fleet_,
                                                                     .tasks = *tasks_,
                                                                     .timers = timers_,
                                                                     .clock = clock_,
                                                                     .metrics = metrics_,
                                                                     .log = logger});
  grpc::ServerBuilder builder;
  builder.RegisterService(rpc_->rpc());
  server_ = builder.BuildAndStart();
  channel_ = server_->InProcessChannel({});
  stub_ = v1::ConclaveService::NewStub(channel_);
}

ApiRig::~ApiRig() {
  server_->Shutdown(std::chrono::system_clock::now());
  server_->Wait();
  rpc_->LetGo();
  tasks_.reset();
  rpc_.reset();
  fleet_.reset();
}

std::vector<std::string> ApiRig::log() const {
  absl::MutexLock lock(&mutex_);
  return log_;
}

int Heard::CountOf(v1::GenerateResponse::EventCase kind) const {
  return static_cast<int>(std::count_if(
      events.begin(), events.end(), [&](const auto& event) { return event.event_case() == kind; }));
}

std::string Heard::Answer() const {
  std::string answer;
  for (const auto& event : events) answer += event.answer_delta().text();
  return answer;
}

v1::GenerateRequest Ask(v1::Mode mode, int agents) {
  v1::GenerateRequest request;
  request.set_mode(mode);
  request.set_seed(7);
  v1::Message& message = *request.add_messages();
  message.set_role(v1::ROLE_USER);
  message.add_parts()->set_text("What is a PRIVATE question?");
  if (agents > 0) request.mutable_contemplation()->set_max_agents(agents);
  return request;
}

namespace {

using Reader = grpc::ClientReader<v1::GenerateResponse>;

Heard ReadOut(Reader& reader, const std::function<void(const v1::GenerateResponse&)>& on_event) {
  Heard heard;
  for (v1::GenerateResponse event; reader.Read(&event);) {
    heard.events.push_back(event);
    on_event(event);
  }
  heard.status = reader.Finish();
  for (size_t i = 0; i < heard.events.size(); ++i) {
    EXPECT_EQ(heard.events[i].sequence(), static_cast<int64_t>(i) + 1);
  }
  if (!heard.events.empty()) {
    EXPECT_TRUE(heard.events.front().has_admitted());
  }
  const int ends = heard.CountOf(v1::GenerateResponse::kCompleted);
  EXPECT_EQ(ends, heard.status.ok() ? 1 : 0) << heard.status.error_message();
  if (heard.status.ok() && ends == 1) {
    EXPECT_TRUE(heard.events.back().has_completed());
    EXPECT_EQ(heard.Answer(), heard.completed().answer());
  }
  return heard;
}

}  // namespace

Heard ReadOut(Reader& reader) {
  return ReadOut(reader, [](const v1::GenerateResponse&) {});
}

Heard Listen(ApiRig& rig, const v1::GenerateRequest& request) {
  grpc::ClientContext context;
  const auto reader = rig.stub().Generate(&context, request);
  return ReadOut(*reader);
}

Heard ListenPastTheDeadline(ApiRig& rig, const v1::GenerateRequest& request, uint32_t agent,
                            int tokens) {
  grpc::ClientContext context;
  const auto reader = rig.stub().Generate(&context, request);
  return ReadOut(*reader, [&](const v1::GenerateResponse& event) {
    if (!event.has_agent_finished() || event.agent() != agent) return;
    rig.clock().Leap(absl::Hours(1));
    rig.worker().HoldAfter(tokens + 1);
  });
}

}  // namespace conclave::router
