#include "worker/service/family_session.h"

#include <string>
#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace conclave::worker {
namespace {

constexpr int kMostGang = 1024;
// Answers to a peer that sends and does not read: beyond them it is not read either.
constexpr size_t kMostUnsent = 2048;

std::vector<AgentId> IdsOf(const std::vector<AgentRecipe>& recipes) {
  std::vector<AgentId> ids;
  for (const AgentRecipe& recipe : recipes) ids.push_back(recipe.id);
  return ids;
}

std::vector<AgentId> IdsOf(const v1::AddAgents& add) {
  std::vector<AgentId> ids;
  for (const v1::AgentRecipe& recipe : add.agents()) ids.push_back(AgentId{recipe.agent()});
  return ids;
}

}  // namespace

FamilySession::FamilySession(FamilyHost& host, FamilyWire wire)
    : host_(host), engine_(host.engine()), wire_(std::move(wire)) {}

FamilySession::~FamilySession() = default;

void FamilySession::Start() { Advance(); }

void FamilySession::OnRequest(absl::StatusOr<v1::RunRequest> request) {
  {
    absl::MutexLock lock(&mutex_);
    reading_ = false;
    busy_ = !ending_;
  }
  if (ending_soon_) return CommandDone(absl::OkStatus());
  if (!request.ok()) return CommandDone(request.status());
  absl::StatusOr<FamilyCommand> command = FromWire(*request);
  if (!command.ok()) {
    // A wrong field of a gang concerns that gang; its siblings live on. All else is a broken peer.
    const int gang = request->has_add() ? request->add().agents_size() : 0;
    if (!opening_ || gang == 0 || gang > kMostGang) return CommandDone(command.status());
    RefuseGang({.agents = IdsOf(request->add()), .why = command.status()});
    return CommandDone(absl::OkStatus());
  }
  if (!opening_ || !std::holds_alternative<std::vector<AgentRecipe>>(*command)) {
    return CommandDone(Obey(*command));
  }
  const bool taken =
      host_.pool().Submit([self = shared_from_this(),
                           recipes = std::get<std::vector<AgentRecipe>>(*std::move(command))] {
        self->AddGang(recipes);
        self->CommandDone(absl::OkStatus());
      });
  // The pool has room for a gang of every family, so this is a limit and not a queue.
  if (!taken) CommandDone(ResourceExhausted("too many gangs wait to be rendered"));
}

void FamilySession::OnHalfClose() {
  {
    absl::MutexLock lock(&mutex_);
    reading_ = false;
    half_closed_ = true;
    busy_ = !ending_;
  }
  if (ending_soon_) return CommandDone(absl::OkStatus());
  if (!opening_) return CommandDone(InvalidArgument("the stream was closed before open"));
  stream_->Finish();
  CommandDone(absl::OkStatus());
}

void FamilySession::CommandDone(const absl::Status& status) {
  {
    absl::MutexLock lock(&mutex_);
    busy_ = false;
    if (!status.ok() && !ending_) {
      ending_ = status;
      ending_soon_ = true;
    }
  }
  Advance();
}

absl::Status FamilySession::Obey(const FamilyCommand& command) {
  if (const auto* opening = std::get_if<FamilyOpening>(&command)) return Open(*opening);
  if (!opening_) return InvalidArgument("the first command must be open");
  if (const auto* cancel = std::get_if<CancelAgents>(&command)) {
    for (AgentId agent : cancel->agents) stream_->Cancel(agent);
  } else if (const auto* raise = std::get_if<RaiseRunTo>(&command)) {
    for (size_t i = 0; i < raise->agents.size(); ++i) {
      stream_->RunTo(raise->agents[i], raise->counts[i] == 0 ? INT32_MAX : raise->counts[i]);
    }
  }
  return absl::OkStatus();
}

absl::Status FamilySession::Open(const FamilyOpening& opening) {
  if (opening_) return InvalidArgument("open came twice");
  RETURN_IF_ERROR(host_.Enter(shared_from_this(), opening));
  ASSIGN_OR_RETURN(stream_, engine_.Open({.seed = opening.seed, .salt = opening.salt},
                                         host_.Timed(shared_from_this())));
  opening_ = opening;
  host_.log().Info("family opened",
                   {{"request", opening.request_id}, {"messages", opening.messages.size()}});
  return absl::OkStatus();
}

void FamilySession::AddGang(const std::vector<AgentRecipe>& recipes) {
  absl::StatusOr<Gang> gang =
      host_.factory().Make(*opening_, recipes, [this] { return !ending_soon_; });
  if (!gang.ok()) {
    const bool too_many = absl::IsOutOfRange(gang.status());
    RefuseGang({.agents = IdsOf(recipes),
                .why = gang.status(),
                .width = too_many ? host_.factory().max_agents() : 0});
    return;
  }
  {
    absl::MutexLock lock(&mutex_);
    pending_.push_back(std::move(gang->agents));
  }
  stream_->Add(std::move(gang->specs));
}

void FamilySession::RefuseGang(GangRefused refused) {
  absl::MutexLock lock(&mutex_);
  pending_.push_back(std::move(refused));
  FlushRefusals();
}

// Adds are answered in order: a refusal of our own waits until the engine has answered those before
// it.
void FamilySession::FlushRefusals() {
  while (!pending_.empty() && std::holds_alternative<GangRefused>(pending_.front())) {
    outbox_.Push(std::get<GangRefused>(std::move(pending_.front())));
    pending_.pop_front();
  }
}

void FamilySession::OnAccepted(const std::vector<AgentId>& gang) {
  {
    absl::MutexLock lock(&mutex_);
    CHECK(!pending_.empty());
    GangAccepted accepted;
    for (TracedAgent& agent : std::get<std::vector<TracedAgent>>(pending_.front())) {
      accepted.agents.push_back({.id = agent.id, .prompt_tokens = agent.prompt_tokens});
      const AgentId id = agent.id;
      agents_.insert_or_assign(id, std::move(agent));
    }
    CHECK(accepted.agents.size() == gang.size());
    pending_.pop_front();
    outbox_.Push(std::move(accepted));
    FlushRefusals();
  }
  Advance();
}

void FamilySession::OnRefused(const std::vector<AgentId>& gang, const absl::Status& why,
                              int width) {
  {
    absl::MutexLock lock(&mutex_);
    CHECK(!pending_.empty());
    pending_.pop_front();
    outbox_.Push(GangRefused{.agents = gang, .why = why, .width = width});
    FlushRefusals();
  }
  Advance();
}

void FamilySession::OnTokens(AgentId agent, int first, const std::vector<TokenEvent>& tokens,
                             const std::optional<AgentEnd>& end) {
  {
    absl::MutexLock lock(&mutex_);
    const auto found = agents_.find(agent);
    CHECK(found != agents_.end());
    FamilyDelta delta;
    delta.agent = agent;
    delta.first = first;
    for (const TokenEvent& token : tokens) {
      TextPiece piece = found->second.trace->Take(first + static_cast<int>(delta.tokens.size()));
      delta.tokens.push_back({.token = token, .text_end = piece.text_end});
      if (found->second.told) host_.factory().Tell(delta.tokens.back().token);
      delta.thinking += piece.thinking;
      delta.answer += piece.answer;
    }
    if (!tokens.empty()) found->second.count = first + static_cast<int>(tokens.size());
    const int count = found->second.count;
    if (end) agents_.erase(found);
    if (ending_) return;
    if (!tokens.empty()) outbox_.Push(std::move(delta));
    if (end) {
      outbox_.PushEnd(agent, count,
                      {.cause = end->finish,
                       .sampled = end->sampled,
                       .forced = end->forced,
                       .fed = end->fed,
                       .trailing = end->trailing,
                       .stopped_by = end->cause});
    }
  }
  Advance();
}

void FamilySession::OnProbe(AgentId agent, int at, const std::vector<TokenEvent>& tokens) {
  ProbeResult probe{.agent = agent, .at = at};
  double logprobs = 0;
  for (const TokenEvent& token : tokens) {
    const bool drawn = token.kind == TokenKind::kSampled;
    ++(drawn ? probe.sampled : probe.forced);
    logprobs += double{token.logprob};
  }
  if (probe.sampled > 0) probe.logprob_mean = static_cast<float>(logprobs / probe.sampled);
  {
    absl::MutexLock lock(&mutex_);
    const auto found = agents_.find(agent);
    CHECK(found != agents_.end());
    if (ending_) return;
    probe.answer = host_.factory().AnswerOf(found->second.asked, tokens);
    outbox_.Push(std::move(probe));
  }
  Advance();
}

void FamilySession::OnFamilyEnd(const FamilyCounters& counters) {
  {
    absl::MutexLock lock(&mutex_);
    if (ending_) return;
    if (half_closed_) {
      family_over_ = true;
      outbox_.Push(FamilyTotals{.prompt_computed = counters.prompt_computed,
                                .prompt_shared = counters.prompt_shared,
                                .sampled = counters.sampled,
                                .forced = counters.forced,
                                .fed = counters.fed,
                                .recomputed = counters.recomputed,
                                .probed = counters.probed});
    } else {
      // Not by our wish: the engine stops, or the router floods it with commands.
      ending_ = Unavailable("the engine released the family");
      ending_soon_ = true;
    }
  }
  Advance();
}

void FamilySession::OnWritten(bool ok) {
  {
    absl::MutexLock lock(&mutex_);
    writing_ = false;
    if (!ok && !ending_) {
      ending_ = Cancelled("the stream broke");
      ending_soon_ = true;
    }
  }
  Advance();
}

void FamilySession::Break(const absl::Status& why) {
  {
    absl::MutexLock lock(&mutex_);
    if (!ending_) ending_ = why;
    ending_soon_ = true;
  }
  Advance();
}

// Asks the call for whatever is due. A thread that asks is counted until it is back, so that the
// call is not finished (and gone) under it.
void FamilySession::Advance() {
  const std::shared_ptr<FamilySession> self = shared_from_this();
  for (;;) {
    std::unique_ptr<FamilyStream> released;
    std::optional<FamilyEvent> event;
    std::optional<absl::Status> finish;
    bool read = false;
    {
      absl::MutexLock lock(&mutex_);
      if (finished_) return;
      if (!ending_ && !writing_) {
        event = outbox_.Pop();
        if (!event && family_over_) ending_ = absl::OkStatus();
      }
      if (ending_) {
        outbox_.Clear();
        if (!busy_) released = std::move(stream_);
        if (!busy_ && !writing_ && calls_out_ == 0) finish = ending_;
      } else {
        read = !event && !reading_ && !busy_ && !half_closed_ && outbox_.size() < kMostUnsent;
      }
      writing_ = writing_ || event.has_value();
      reading_ = reading_ || read;
      finished_ = finish.has_value();
      if (event || read) ++calls_out_;
    }
    released.reset();
    if (finish) {
      host_.Leave(this);
      wire_.finish(*finish);
      return;
    }
    if (!event && !read) return;
    if (event) wire_.write(*event);
    if (read) wire_.read();
    absl::MutexLock lock(&mutex_);
    --calls_out_;
  }
}

}  // namespace conclave::worker
