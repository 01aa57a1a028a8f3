#include "router/api/generation.h"

#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "router/api/event_wire.h"
#include "router/api/kept_requests.h"

namespace conclave::router {
namespace {

int64_t BytesOf(const std::vector<Vote>& votes) {
  size_t bytes = votes.size() * sizeof(Vote);
  for (const Vote& vote : votes) bytes += vote.answer.size();
  return static_cast<int64_t>(bytes);
}

int64_t BytesOf(const std::optional<std::string>& answer) {
  return answer.has_value() ? static_cast<int64_t>(answer->size()) : 0;
}

// Texts of an event, which is kept whole although a message may carry less of them.
int64_t TextBytesOf(const ClientEvent& event) {
  if (const auto* votes = std::get_if<VoteUpdate>(&event.what)) return BytesOf(votes->votes);
  if (const auto* ended = std::get_if<AgentFinished>(&event.what)) return BytesOf(ended->answer);
  const auto* completed = std::get_if<Completed>(&event.what);
  if (completed == nullptr) return 0;
  int64_t bytes = static_cast<int64_t>(completed->answer.size());
  bytes += BytesOf(completed->receipt.votes);
  for (const AgentUsage& agent : completed->receipt.agents) bytes += BytesOf(agent.answer);
  return bytes;
}

// What it takes to keep an event: a delta's text merges into others, so its own weight is small.
int64_t BytesOf(const ClientEvent& event) {
  if (const auto* answer = std::get_if<AnswerDelta>(&event.what)) {
    return 2 * static_cast<int64_t>(answer->text.size());  // Also kept by itself.
  }
  if (const auto* delta = std::get_if<AgentDelta>(&event.what)) {
    size_t bytes = delta->thinking.size() + delta->answer.size();
    for (const TokenEvent& token : delta->tokens) {
      bytes += sizeof(TokenEvent) + token.told.size() * sizeof(RatedToken) + ToldBytes(token);
    }
    return static_cast<int64_t>(bytes);
  }
  return static_cast<int64_t>(sizeof event + ToWire(event).ByteSizeLong()) + TextBytesOf(event);
}

}  // namespace

// One attempt's stream: its events go to the mailbox.
class Generation::Stream : public FamilyEvents {
 public:
  Stream(std::weak_ptr<Generation> owner, Fleet& fleet, int attempt, int group)
      : owner_(std::move(owner)), fleet_(fleet), attempt_(attempt), group_(group) {}

  void OnAccepted(std::vector<AcceptedAgent> gang) override {
    Post(Accepted{.attempt = attempt_, .agents = std::move(gang)});
  }
  void OnRefused(std::vector<AgentId> gang, absl::Status why, int width) override {
    Post(Refused{
        .attempt = attempt_, .agents = std::move(gang), .why = std::move(why), .width = width});
  }
  void OnDelta(FamilyDelta delta) override {
    Post(Delta{.attempt = attempt_, .delta = std::move(delta)});
  }
  void OnProbe(ProbeResult probe) override {
    Post(Probed{.attempt = attempt_, .result = std::move(probe)});
  }
  void OnFamilyEnd(FamilyTotals totals) override {
    Post(FamilyEnded{.attempt = attempt_, .totals = totals});
  }
  void OnLost(absl::Status why) override {
    const std::string words = fleet_.LossWords(group_, why);
    Post(Lost{.attempt = attempt_, .why = MakeStatus(why.code(), words)});
  }

 private:
  void Post(decltype(Event::what) what) {
    if (const auto owner = owner_.lock()) owner->Generation::Post(Item(std::move(what)));
  }

  const std::weak_ptr<Generation> owner_;
  Fleet& fleet_;
  const int attempt_, group_;
};

Generation::Generation(const GenerationParts& parts, Plan plan, const Limits& limits, Ticket ticket,
                       GenerationHooks hooks, LogPlace log)
    : parts_(parts),
      hooks_(std::move(hooks)),
      log_place_(std::move(log)),
      replays_(plan.request.replay.has_value()),
      wants_load_(!replays_ && plan.agents.size() > 1),
      contemplation_(std::in_place, plan, limits),
      ticket_(std::move(ticket)),
      admitted_(parts.clock.Now()) {
  question_.prompt_tokens = EstimateTokens(plan.request.messages);
  question_.prefix = PrefixOf(plan.request.messages);
  if (log_place_.kept == nullptr) return;
  log_.emplace();
  has_log_ = true;
}

Generation::~Generation() {
  parts_.timers.Cancel(timer_);
  parts_.timers.Cancel(place_timer_);
  ForgetLog();
}

void Generation::Start() { Post(Item(Started{})); }
void Generation::Abandon() { Post(Item(ClientGone{})); }

absl::Status Generation::Stop() {
  if (replays_) return FailedPrecondition("a replay takes no decision of its own; cancel it");
  Post(Item(StopRequested{}));
  return absl::OkStatus();
}

void Generation::Post(Item item) {
  {
    absl::MutexLock lock(&mutex_);
    if (end_) return;
    mailbox_.push_back(std::move(item));
    if (scheduled_) return;
    scheduled_ = true;
  }
  parts_.tasks.Post([self = shared_from_this()] { self->Drain(); });
}

// One event after another, without a lock. Ends when the mailbox is empty.
void Generation::Drain() {
  for (;;) {
    std::optional<Item> item;
    {
      absl::MutexLock lock(&mutex_);
      if (mailbox_.empty() || end_) {
        mailbox_.clear();
        scheduled_ = false;
        break;
      }
      item = std::move(mailbox_.front());
      mailbox_.pop_front();
    }
    Handle(*std::move(item));
  }
  Wake();
}

void Generation::Handle(Item item) {
  if (auto* found = std::get_if<GroupFound>(&item)) return Found(*found);
  if (auto* late = std::get_if<PlaceGivenUp>(&item)) {
    if (!opening_ || opening_->attempt != late->attempt) return;
    waiting_.reset();
    opening_.reset();
    return Feed(PlacementFailed{.attempt = late->attempt, .why = parts_.fleet.WhyNot(question_)});
  }
  Feed(std::get<decltype(Event::what)>(std::move(item)));
}

void Generation::NoteFirstToken(const decltype(Event::what)& what) {
  const auto* delta = std::get_if<Delta>(&what);
  if (spoke_ || delta == nullptr || delta->delta.tokens.empty()) return;
  spoke_ = true;
  hooks_.on_first_token(parts_.clock.Now() - admitted_);
}

void Generation::Feed(decltype(Event::what) what) {
  NoteFirstToken(what);
  std::vector<Command> commands =
      contemplation_->On({.at = parts_.clock.Now(), .what = std::move(what)});
  for (Command& command : commands) {
    std::visit([this](auto& each) { Do(each); }, command);
  }
}

void Generation::Do(OpenRun& command) {
  run_.reset();
  question_.model = command.model;
  question_.fingerprint = command.opening.fingerprint;
  question_.agents = command.agents;
  question_.least = command.least;
  const int attempt = command.attempt;
  opening_ = std::move(command);
  const std::weak_ptr<Generation> weak = weak_from_this();
  waiting_ = parts_.fleet.Place(question_, [weak, attempt](int group) {
    if (const auto self = weak.lock()) self->Post(GroupFound{.attempt = attempt, .group = group});
  });
  parts_.timers.Cancel(place_timer_);
  place_timer_ = parts_.timers.At(parts_.clock.Now() + parts_.place_patience, [weak, attempt] {
    if (const auto self = weak.lock()) self->Post(PlaceGivenUp{.attempt = attempt});
  });
}

void Generation::Found(const GroupFound& found) {
  if (!opening_ || opening_->attempt != found.attempt) return;
  waiting_.reset();
  OpenRun opening = *std::exchange(opening_, std::nullopt);
  const GroupView view = parts_.fleet.View(found.group);
  auto events =
      std::make_shared<Stream>(weak_from_this(), parts_.fleet, found.attempt, found.group);
  const int places = view.description ? view.description->model.max_agents : 0;
  Fleet::LoadListener on_load;
  if (wants_load_) {
    on_load = [weak = weak_from_this(), attempt = found.attempt, places](const GroupLoad& load) {
      const auto self = weak.lock();
      if (self == nullptr) return;
      self->Post(Item(CreditsChanged{.attempt = attempt,
                                     .credits = load.credits,
                                     .running = load.agents_running,
                                     .places = places}));
    };
  }
  run_ = parts_.fleet.Open(found.group, std::move(opening.opening), std::move(events),
                           std::move(on_load));
  Feed(Placed{.attempt = found.attempt,
              .fingerprint = view.description ? view.description->model.fingerprint : "",
              .credits = opening.agents + view.load.credits,
              .running = view.load.agents_running - opening.agents,
              .places = places,
              .words = parts_.fleet.ReturnWords(found.group)});
}

void Generation::Do(AddGang& command) {
  if (run_) run_->Add(std::move(command.agents));
}

void Generation::Do(CancelAgents& command) {
  if (run_) run_->Cancel(std::move(command.agents));
}

void Generation::Do(RaiseRunTo& command) {
  if (run_) run_->RunTo(std::move(command.agents), std::move(command.counts));
}

void Generation::Do(FinishRun&) {
  if (run_) run_->Finish();
}

void Generation::Do(CloseRun&) {
  opening_.reset();
  waiting_.reset();
  run_.reset();
}

void Generation::Do(Emit& command) {
  if (const auto* completed = std::get_if<Completed>(&command.event.what)) {
    const Receipt& receipt = completed->receipt;
    bill_ = {.tokens = receipt.thinking_tokens + receipt.answer_tokens +
                       receipt.aggregation_tokens + receipt.discarded_tokens,
             .probe_tokens = receipt.probe_tokens,
             .prompt = receipt.prompt};
  }
  hooks_.on_event(command.event);
  const int64_t bytes = TakeBytes(command.event);
  bool unwanted = false;
  {
    // At once: a client that attaches finds the event in the log, or is told of it.
    absl::MutexLock lock(&mutex_);
    if (log_) Log(command.event, bytes);
    if (attached_ && differs_.ok()) {
      differs_ = Tell(std::move(command.event));
      unwanted = !differs_.ok();
    } else {
      unwanted = !attached_ && !log_;  // Nobody will ever hear of it.
    }
  }
  if (unwanted) {
    ForgetLog();
    Post(Item(ClientGone{}));
  }
  Wake();
}

int64_t Generation::TakeBytes(const ClientEvent& event) {
  if (!has_log()) return 0;
  const int64_t bytes = BytesOf(event);
  if (log_place_.kept->Take(log_place_.tenant, bytes)) return bytes;
  ForgetLog();
  return 0;
}

void Generation::Log(const ClientEvent& event, int64_t bytes) {
  log_bytes_ += bytes;
  log_->Push(event);
  if (const auto* delta = std::get_if<AnswerDelta>(&event.what)) answer_ += delta->text;
}

void Generation::ForgetLog() {
  int64_t bytes = 0;
  {
    absl::MutexLock lock(&mutex_);
    log_.reset();
    has_log_ = false;
    answer_ = {};
    bytes = std::exchange(log_bytes_, 0);
  }
  if (log_place_.kept != nullptr) log_place_.kept->Give(log_place_.tenant, bytes);
}

absl::Status Generation::Tell(ClientEvent event) {
  if (auto* delta = std::get_if<AnswerDelta>(&event.what)) {
    ASSIGN_OR_RETURN(delta->text, gate_.Pass(std::move(delta->text)));
    if (delta->text.empty()) return absl::OkStatus();
  }
  if (std::holds_alternative<Completed>(event.what)) RETURN_IF_ERROR(gate_.Close());
  outbox_.Push(std::move(event));
  return absl::OkStatus();
}

absl::StatusOr<Generation::Attached> Generation::Attach(const std::optional<HeldAnswer>& held,
                                                        std::function<void()> wake) {
  absl::MutexLock lock(&mutex_);
  AnswerGate gate = held ? AnswerGate(*held) : AnswerGate();
  if (clients_ > 0) {
    if (!log_) return NotFound("the request is no longer held");
    AnswerGate whole = gate;
    RETURN_IF_ERROR(whole.Pass(answer_).status());
    RETURN_IF_ERROR(whole.Close());
  }
  attached_ = true;
  gate_ = std::move(gate);
  outbox_ = {};
  if (log_) {
    for (const ClientEvent& event : log_->events()) CHECK(Tell(event).ok());
  }
  return Attached{.client = ++clients_, .former = std::exchange(wake_, std::move(wake))};
}

bool Generation::Detach(int client) {
  absl::MutexLock lock(&mutex_);
  if (client != clients_ || !attached_) return false;
  attached_ = false;
  wake_ = nullptr;
  outbox_ = {};
  return true;
}

void Generation::Wake() {
  std::function<void()> wake;
  {
    absl::MutexLock lock(&mutex_);
    wake = wake_;
  }
  if (wake) wake();
}

void Generation::Do(WakeAt& command) {
  parts_.timers.Cancel(timer_);
  timer_ = 0;
  if (command.time == absl::InfiniteFuture()) return;
  timer_ = parts_.timers.At(command.time, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->Post(Item(Tick{}));
  });
}

void Generation::Conclude(const absl::Status& status) {
  opening_.reset();
  waiting_.reset();
  run_.reset();
  contemplation_.reset();
  parts_.timers.Cancel(timer_);
  parts_.timers.Cancel(place_timer_);
  ticket_->Used(bill_.tokens + bill_.probe_tokens + bill_.prompt.computed);
  ticket_.reset();
  absl::Status end = status;
  {
    absl::MutexLock lock(&mutex_);
    if (!differs_.ok()) end = differs_;
  }
  hooks_.on_end(end, bill_);
  absl::MutexLock lock(&mutex_);
  end_ = end;
  ended_ = true;
}

std::optional<ClientEvent> Generation::NextEvent(int client) {
  absl::MutexLock lock(&mutex_);
  if (client != clients_) return std::nullopt;
  return outbox_.Pop();
}

std::optional<absl::Status> Generation::End(int client) {
  absl::MutexLock lock(&mutex_);
  if (client != clients_) return Aborted("another stream took the request over");
  if (!outbox_.empty()) return std::nullopt;
  return end_;
}

}  // namespace conclave::router
