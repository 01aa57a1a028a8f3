#include "worker/engine/engine.h"

#include <utility>

#include "common/status.h"
#include "worker/engine/engine_core.h"

namespace conclave::worker {

void FamilySink::OnProbe(AgentId, int, const std::vector<TokenEvent>&) {}

Engine::Engine(const EngineOptions& options, StepRunner& runner, Clock& clock)
    : core_(std::make_shared<Core>(options, runner, clock)), thread_([this] { core_->Loop(); }) {}

Engine::~Engine() {
  core_->Stop();
  thread_.join();
}

absl::StatusOr<std::unique_ptr<FamilyStream>> Engine::Open(FamilySpec spec,
                                                           std::shared_ptr<FamilySink> sink) {
  ASSIGN_OR_RETURN(const FamilyKey family, core_->Open(std::move(spec), std::move(sink)));
  return std::make_unique<FamilyStream>(core_, family);
}

EngineLoad Engine::load() const { return core_->load(); }

absl::Status Engine::health() const { return core_->health(); }

FamilyStream::FamilyStream(std::shared_ptr<Engine::Core> core, uint64_t family)
    : core_(std::move(core)), family_(family) {}

FamilyStream::~FamilyStream() {
  core_->Post({.kind = EngineCommand::Kind::kRelease, .family = family_});
}

void FamilyStream::Add(std::vector<AgentSpec> gang) {
  EngineCommand command{.kind = EngineCommand::Kind::kAdd, .family = family_};
  command.gang = std::move(gang);
  core_->Post(std::move(command));
}

void FamilyStream::RunTo(AgentId agent, int count) {
  EngineCommand command{.kind = EngineCommand::Kind::kRunTo, .family = family_};
  command.agent = agent;
  command.count = count;
  core_->Post(std::move(command));
}

void FamilyStream::Cancel(AgentId agent) {
  EngineCommand command{.kind = EngineCommand::Kind::kCancel, .family = family_};
  command.agent = agent;
  core_->Post(std::move(command));
}

void FamilyStream::Finish() {
  core_->Post({.kind = EngineCommand::Kind::kFinish, .family = family_});
}

}  // namespace conclave::worker
