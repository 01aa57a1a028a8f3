#include "router/api/generation.h"

#include <absl/synchronization/notification.h>

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
  ForgetLog();
}

void Generation::Start() { Post(Item(Started{})); }
void Generation::Abandon() { Post(Item(ClientGone{})); }

void Generation::Close() {
  absl::Notification closed;
  Post(Item(Closing{.seen = {nullptr, [&closed](void*) { closed.Notify(); }}}));
  closed.WaitForNotification();
}

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
  if (std::holds_alternative<Closing>(item)) return Conclude(Cancelled("the router shuts down"));
  if (const auto* news = std::get_if<Attempt::News>(&item)) {
    if (!attempt_) return;
    auto what = attempt_->Hear(*news);
    if (!what) return;
    const bool last = std::holds_alternative<Lost>(*what) ||
                      std::holds_alternative<FamilyEnded>(*what) ||
                      std::holds_alternative<PlacementFailed>(*what);
    if (last) attempt_.reset();
    return Feed(*std::move(what));
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
  attempt_.reset();
  const Attempt::Parts parts = {.fleet = parts_.fleet,
                                .timers = parts_.timers,
                                .clock = parts_.clock,
                                .patience = parts_.place_patience};
  attempt_ = std::make_unique<Attempt>(
      parts, std::move(command), question_, wants_load_, [weak = weak_from_this()](auto item) {
        const auto self = weak.lock();
        if (self == nullptr) return;
        std::visit([&](auto& each) { self->Post(Item(std::move(each))); }, item);
      });
}

void Generation::Do(AddGang& command) {
  if (attempt_) attempt_->Add(std::move(command));
}

void Generation::Do(CancelAgents& command) {
  if (attempt_) attempt_->Cancel(std::move(command));
}

void Generation::Do(RaiseRunTo& command) {
  if (attempt_) attempt_->RunTo(std::move(command));
}

void Generation::Do(FinishRun& command) {
  if (attempt_) attempt_->Finish(command.place);
}

void Generation::Do(CloseRun&) { attempt_.reset(); }

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
  attempt_.reset();
  contemplation_.reset();
  parts_.timers.Cancel(timer_);
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
