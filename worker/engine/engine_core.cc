#include "worker/engine/engine_core.h"

#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace conclave::worker {
namespace {

constexpr int kMaxWaitingCommands = 1024;  // Of one family.
constexpr absl::Duration kIdleTurn = absl::Milliseconds(100);

absl::StatusOr<int> CheckGroup(const EngineOptions& options, const GroupShape& shape) {
  if (options.plans_in_flight < 1 || options.plans_in_flight > 2) {
    return InvalidArgument("{} plans in flight; 1 or 2 are possible", options.plans_in_flight);
  }
  if (options.max_batched_tokens < 1 || shape.max_rows < 1 || shape.max_samples < 1 ||
      shape.max_slots < 1) {
    return InvalidArgument("a step of {} tokens, {} rows, {} samples and {} slots",
                           options.max_batched_tokens, shape.max_rows, shape.max_samples,
                           shape.max_slots);
  }
  return KvCache::UsableBlocks(shape.pools);
}

}  // namespace

Engine::Core::Core(const EngineOptions& options, StepRunner& runner, Clock& clock)
    : options_(options), runner_(runner), clock_(clock) {
  const absl::StatusOr<int> blocks = CheckGroup(options, runner.shape());
  if (blocks.ok()) {
    scheduler_.emplace(options, runner.shape(), *blocks);
    Publish();
  } else {
    Lose(blocks.status());
  }
}

absl::StatusOr<FamilyKey> Engine::Core::Open(FamilySpec spec, std::shared_ptr<FamilySink> sink) {
  CHECK(sink != nullptr);
  EngineCommand open;
  {
    absl::MutexLock lock(&mutex_);
    RETURN_IF_ERROR(health_);
    if (stopping_ || stopped_) return Unavailable("the engine has stopped");
    if (open_families_ >= options_.max_families) {
      return ResourceExhausted("{} families are open; the limit is {}", open_families_,
                               options_.max_families);
    }
    ++open_families_;
    open.family = ++last_family_;
  }
  open.spec = std::move(spec);
  open.sink = std::move(sink);
  const FamilyKey key = open.family;
  Post(std::move(open));
  return key;
}

void Engine::Core::Post(EngineCommand command) {
  absl::MutexLock lock(&mutex_);
  if (stopped_) return;
  int& waiting = waiting_[command.family];
  if (waiting > kMaxWaitingCommands) return;  // Its release waits already.
  if (waiting == kMaxWaitingCommands) {
    const FamilyKey family = command.family;
    command = {.kind = EngineCommand::Kind::kRelease, .family = family};
  }
  ++waiting;
  commands_.push_back(std::move(command));
}

EngineLoad Engine::Core::load() const {
  absl::MutexLock lock(&mutex_);
  return load_;
}

absl::Status Engine::Core::health() const {
  absl::MutexLock lock(&mutex_);
  return health_;
}

void Engine::Core::Stop() {
  absl::MutexLock lock(&mutex_);
  stopping_ = true;
}

void Engine::Core::Loop() {
  for (;;) {
    if (options_.on_turn) options_.on_turn();
    {
      absl::MutexLock lock(&mutex_);
      if (stopping_ || stopped_) break;
    }
    if (Turn()) continue;
    absl::MutexLock lock(&mutex_);
    mutex_.AwaitWithTimeout(absl::Condition(this, &Core::Woken), kIdleTurn);
  }
  if (health().ok()) ReleaseAll();
}

bool Engine::Core::Turn() {
  std::vector<EngineCommand> commands;
  {
    absl::MutexLock lock(&mutex_);
    if (stopped_) return false;
    commands.swap(commands_);
    waiting_.clear();
  }
  for (EngineCommand& command : commands) Obey(std::move(command));
  const absl::StatusOr<bool> stepped = Step();
  if (!stepped.ok()) {
    Lose(stepped.status());
    return false;
  }
  Deliver();
  Publish();
  return *stepped;
}

void Engine::Core::Obey(EngineCommand command) {
  using Kind = EngineCommand::Kind;
  if (command.kind == Kind::kOpen) {
    scheduler_->Open(command.family, command.spec);
    families_[command.family].sink = std::move(command.sink);
    return;
  }
  const auto found = families_.find(command.family);
  if (found == families_.end()) return;
  switch (command.kind) {
    case Kind::kAdd:
      Add(command.family, found->second, std::move(command.gang));
      break;
    case Kind::kRunTo:
      scheduler_->RunTo(command.family, command.agent, command.count);
      break;
    case Kind::kCancel:
      scheduler_->Cancel(command.family, command.agent);
      break;
    case Kind::kRelease:
      scheduler_->CancelAll(command.family);
      [[fallthrough]];
    case Kind::kFinish:
      found->second.finished = true;
      break;
    case Kind::kOpen:
      break;
  }
  Deliver();
  EndIfDone(command.family);
}

void Engine::Core::Add(FamilyKey key, Family& family, std::vector<AgentSpec> gang) {
  std::vector<AgentId> ids;
  for (const AgentSpec& agent : gang) ids.push_back(agent.id);
  Admission admission;
  if (family.finished) {
    admission.status = FailedPrecondition("agents were added after the family's last command");
  } else {
    admission = scheduler_->Add(key, std::move(gang));
  }
  if (admission.status.ok()) {
    family.sink->OnAccepted(ids);
  } else {
    family.sink->OnRefused(ids, admission.status, admission.width);
  }
}

void Engine::Core::Deliver() {
  const std::vector<Progress> happened = scheduler_->TakeProgress();
  for (const Progress& progress : happened) {
    FamilySink& sink = *families_.at(progress.family).sink;
    if (progress.of_copy) {
      sink.OnProbe(progress.agent, progress.first, progress.tokens);
    } else {
      sink.OnTokens(progress.agent, progress.first, progress.tokens, progress.end);
    }
  }
  for (const Progress& progress : happened) {
    if (progress.end.has_value()) EndIfDone(progress.family);
  }
}

void Engine::Core::EndIfDone(FamilyKey key) {
  const auto found = families_.find(key);
  if (found == families_.end() || !found->second.finished || scheduler_->agents(key) > 0) return;
  const std::shared_ptr<FamilySink> sink = std::move(found->second.sink);
  families_.erase(found);
  {
    absl::MutexLock lock(&mutex_);
    --open_families_;
  }
  sink->OnFamilyEnd(scheduler_->Close(key));
}

// False: nothing was in flight, and nothing is to be done.
absl::StatusOr<bool> Engine::Core::Step() {
  if (scheduler_->plans_in_flight() == 0) busy_since_ = clock_.Now();
  while (scheduler_->plans_in_flight() < options_.plans_in_flight) {
    std::optional<StepPlan> plan = scheduler_->Next();
    if (!plan.has_value()) break;
    RETURN_IF_ERROR(runner_.Submit(*std::move(plan)));
  }
  if (scheduler_->plans_in_flight() == 0) return false;
  ASSIGN_OR_RETURN(const StepResult result, runner_.Await());
  const absl::Time now = clock_.Now();
  busy_ += now - busy_since_;
  busy_since_ = now;
  scheduler_->Apply(result);
  return true;
}

void Engine::Core::ReleaseAll() {
  std::vector<EngineCommand> commands;
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
    commands.swap(commands_);
  }
  for (EngineCommand& command : commands) Obey(std::move(command));
  std::vector<FamilyKey> keys;
  for (const auto& [key, family] : families_) keys.push_back(key);
  for (const FamilyKey key : keys) Obey({.kind = EngineCommand::Kind::kRelease, .family = key});
  // The runner is left idle. What it says no longer matters.
  for (int i = scheduler_->plans_in_flight(); i > 0; --i) {
    if (!runner_.Await().ok()) break;
  }
  Publish();
}

void Engine::Core::Lose(const absl::Status& why) {
  std::vector<EngineCommand> dropped;
  {
    absl::MutexLock lock(&mutex_);
    health_ = why;
    stopped_ = true;
    dropped.swap(commands_);
  }
  families_.clear();
}

void Engine::Core::Publish() {
  EngineLoad load = scheduler_->load();
  load.busy = busy_;
  absl::MutexLock lock(&mutex_);
  load_ = load;
}

}  // namespace conclave::worker
