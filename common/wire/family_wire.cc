#include "common/wire/family_wire.h"

#include <cmath>
#include <limits>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "common/wire/message_wire.h"
#include "common/wire/token_wire.h"

namespace conclave {
namespace {

constexpr int kMostGang = 1024;
constexpr size_t kMostRequestIdBytes = 128;
constexpr size_t kMostSaltBytes = 256;
constexpr int kMostStops = 16;
constexpr size_t kMostStopBytes = 256;
constexpr int kMostInt = std::numeric_limits<int>::max();
constexpr int64_t kMostTotal = int64_t{1} << 48;  // So that sums of totals are numbers too.
constexpr int kMostCredits = 1 << 20;

absl::Status CheckNumber(std::string_view path, int64_t value, int64_t least) {
  if (value >= least) return absl::OkStatus();
  return BadField(path, fmt::format("is {}; it must be at least {}", value, least));
}

absl::Status CheckRange(std::string_view path, int64_t value, int64_t most) {
  if (value >= 0 && value <= most) return absl::OkStatus();
  return BadField(path, fmt::format("is {}; it can be 0 to {}", value, most));
}

absl::Status CheckGangSize(std::string_view path, int size) {
  if (size >= 1 && size <= kMostGang) return absl::OkStatus();
  return BadField(path, fmt::format("has {} agents; 1 to {} are allowed", size, kMostGang));
}

// Agents' ids, each once: a gang that names one twice would be counted twice.
template <typename Ids>
absl::StatusOr<std::vector<AgentId>> ReadIds(const Ids& wire, std::string_view path) {
  RETURN_IF_ERROR(CheckGangSize(path, wire.size()));
  std::vector<AgentId> ids;
  ids.reserve(static_cast<size_t>(wire.size()));
  for (const uint32_t id : wire) ids.push_back(static_cast<AgentId>(id));
  return ids;
}

v1::OpenFamily ToWire(const FamilyOpening& opening) {
  v1::OpenFamily wire;
  wire.set_request_id(opening.request_id);
  wire.set_seed(opening.seed);
  wire.set_salt(opening.salt);
  conclave::ToWire(opening.messages, wire.mutable_messages());
  wire.set_time_of_day(opening.time_of_day);
  wire.set_fingerprint(opening.fingerprint);
  return wire;
}

absl::StatusOr<FamilyCommand> ReadOpening(const v1::OpenFamily& wire) {
  if (wire.request_id().size() > kMostRequestIdBytes) {
    return BadField("open.request_id", fmt::format("has {} bytes; the limit is {}",
                                                   wire.request_id().size(), kMostRequestIdBytes));
  }
  if (wire.salt().size() > kMostSaltBytes) {
    return BadField("open.salt", fmt::format("has {} bytes; the limit is {}", wire.salt().size(),
                                             kMostSaltBytes));
  }
  FamilyOpening opening;
  ASSIGN_OR_RETURN(opening.messages, FromWire(wire.messages(), "open.messages"));
  opening.request_id = wire.request_id();
  opening.seed = wire.seed();
  opening.salt = wire.salt();
  opening.time_of_day = wire.time_of_day();
  opening.fingerprint = wire.fingerprint();
  return opening;
}

v1::AgentRecipe ToWire(const AgentRecipe& recipe) {
  v1::AgentRecipe wire;
  wire.set_agent(static_cast<uint32_t>(recipe.id));
  wire.set_append(recipe.append);
  conclave::ToWire(recipe.messages, wire.mutable_messages());
  wire.set_thinking(conclave::ToWire(recipe.thinking));
  *wire.mutable_sampling() = conclave::ToWire(recipe.sampling);
  wire.set_grant(recipe.grant);
  wire.set_run_to(recipe.run_to);
  wire.set_thinking_tokens(recipe.budget.thinking_tokens);
  wire.set_answer_tokens(recipe.budget.answer_tokens);
  for (const std::string& text : recipe.stop) wire.add_stop(text);
  for (const TokenEvent& token : recipe.produced) {
    *wire.add_produced() = conclave::ToWire(TextToken{.token = token});
  }
  wire.mutable_stop_tokens()->Add(recipe.stop_tokens.begin(), recipe.stop_tokens.end());
  if (recipe.top_logprobs) wire.set_top_logprobs(*recipe.top_logprobs);
  wire.set_min_tokens(recipe.budget.min_tokens);
  if (recipe.bar.bar > 0) {
    wire.set_confidence_bar(recipe.bar.bar);
    wire.set_confidence_window(recipe.bar.window);
  }
  if (recipe.probe_every > 0) {
    wire.set_probe_every(recipe.probe_every);
    wire.set_probe_tokens(recipe.probe_tokens);
  }
  return wire;
}

absl::Status ReadStops(const v1::AgentRecipe& wire, const std::string& path, AgentRecipe& recipe) {
  if (wire.stop_size() > kMostStops) {
    return BadField(path + ".stop",
                    fmt::format("has {} texts; the limit is {}", wire.stop_size(), kMostStops));
  }
  for (const std::string& text : wire.stop()) {
    if (text.empty() || text.size() > kMostStopBytes) {
      return BadField(path + ".stop", fmt::format("has a text of {} bytes; 1 to {} are allowed",
                                                  text.size(), kMostStopBytes));
    }
    recipe.stop.push_back(text);
  }
  ASSIGN_OR_RETURN(recipe.stop_tokens, ReadStopTokens(wire.stop_tokens(), path + ".stop_tokens"));
  return absl::OkStatus();
}

absl::Status ReadBar(const v1::AgentRecipe& wire, const std::string& path, AgentRecipe& recipe) {
  const double bar = wire.confidence_bar();
  if (!(bar >= 0 && bar <= kMostConfidenceBar)) {
    return BadField(path + ".confidence_bar",
                    fmt::format("is {}; 0 to {} is allowed", bar, kMostConfidenceBar));
  }
  if (bar == 0) return absl::OkStatus();
  const int window = wire.confidence_window();
  if (window < 1 || window > kMostConfidenceWindow) {
    return BadField(path + ".confidence_window",
                    fmt::format("is {}; 1 to {} is allowed", window, kMostConfidenceWindow));
  }
  recipe.bar = {.bar = bar, .window = window};
  return absl::OkStatus();
}

absl::Status ReadProbes(const v1::AgentRecipe& wire, const std::string& path, AgentRecipe& recipe) {
  if (wire.probe_every() == 0) return absl::OkStatus();
  if (wire.probe_every() < kLeastProbeEvery || wire.probe_every() > kMostProbeEvery) {
    return BadField(path + ".probe_every",
                    fmt::format("is {}; 0 or {} to {} is allowed", wire.probe_every(),
                                kLeastProbeEvery, kMostProbeEvery));
  }
  if (wire.probe_tokens() < 1 || wire.probe_tokens() > kMostProbeTokens) {
    return BadField(path + ".probe_tokens", fmt::format("is {}; 1 to {} is allowed",
                                                        wire.probe_tokens(), kMostProbeTokens));
  }
  recipe.probe_every = wire.probe_every();
  recipe.probe_tokens = wire.probe_tokens();
  return absl::OkStatus();
}

absl::StatusOr<AgentRecipe> ReadRecipe(const v1::AgentRecipe& wire, const std::string& path) {
  AgentRecipe recipe;
  recipe.id = static_cast<AgentId>(wire.agent());
  recipe.append = wire.append();
  ASSIGN_OR_RETURN(recipe.messages, FromWire(wire.messages(), path + ".messages", 0));
  const absl::StatusOr<Thinking> thinking = FromWire(wire.thinking());
  if (!thinking.ok()) return BadField(path + ".thinking", MessageOf(thinking.status()));
  recipe.thinking = *thinking;
  ASSIGN_OR_RETURN(recipe.sampling, FromWire(wire.sampling(), Sampling{}, path + ".sampling"));
  RETURN_IF_ERROR(CheckNumber(path + ".grant", wire.grant(), 1));
  RETURN_IF_ERROR(CheckNumber(path + ".run_to", wire.run_to(), 0));
  RETURN_IF_ERROR(CheckNumber(path + ".thinking_tokens", wire.thinking_tokens(), 0));
  RETURN_IF_ERROR(CheckNumber(path + ".answer_tokens", wire.answer_tokens(), 0));
  recipe.grant = wire.grant();
  recipe.run_to = wire.run_to();
  recipe.budget = {wire.thinking_tokens(), wire.answer_tokens(), wire.min_tokens()};
  if (wire.has_top_logprobs()) {
    ASSIGN_OR_RETURN(recipe.top_logprobs,
                     ReadTopLogprobs(wire.top_logprobs(), path + ".top_logprobs"));
  }
  RETURN_IF_ERROR(ReadStops(wire, path, recipe));
  RETURN_IF_ERROR(ReadBar(wire, path, recipe));
  RETURN_IF_ERROR(ReadProbes(wire, path, recipe));
  if (wire.produced_size() > wire.grant()) {
    return BadField(path + ".produced", fmt::format("has {} tokens; the grant is {}",
                                                    wire.produced_size(), wire.grant()));
  }
  if (wire.min_tokens() < 0 || wire.min_tokens() > wire.grant()) {
    return BadField(path + ".min_tokens",
                    fmt::format("is {}; it can be 0 to {}", wire.min_tokens(), wire.grant()));
  }
  recipe.produced.reserve(static_cast<size_t>(wire.produced_size()));
  for (const v1::ProducedToken& token : wire.produced()) {
    ASSIGN_OR_RETURN(const TextToken read, ReadToken(token, path + ".produced"));
    recipe.produced.push_back(read.token);
    recipe.produced.back().told.clear();
  }
  return recipe;
}

absl::StatusOr<FamilyCommand> ReadAdd(const v1::AddAgents& wire) {
  RETURN_IF_ERROR(CheckGangSize("add.agents", wire.agents_size()));
  std::vector<AgentRecipe> gang;
  gang.reserve(static_cast<size_t>(wire.agents_size()));
  for (int i = 0; i < wire.agents_size(); ++i) {
    ASSIGN_OR_RETURN(AgentRecipe recipe,
                     ReadRecipe(wire.agents(i), fmt::format("add.agents[{}]", i)));
    for (const AgentRecipe& other : gang) {
      if (other.id == recipe.id) {
        return BadField(fmt::format("add.agents[{}].agent", i),
                        fmt::format("{} is there twice", wire.agents(i).agent()));
      }
    }
    gang.push_back(std::move(recipe));
  }
  return gang;
}

absl::StatusOr<FamilyCommand> ReadRunTo(const v1::RunTo& wire) {
  RaiseRunTo raise;
  ASSIGN_OR_RETURN(raise.agents, ReadIds(wire.agents(), "run_to.agents"));
  if (wire.counts_size() != wire.agents_size()) {
    return BadField("run_to.counts", fmt::format("has {} entries for {} agents", wire.counts_size(),
                                                 wire.agents_size()));
  }
  for (const int count : wire.counts()) {
    RETURN_IF_ERROR(CheckNumber("run_to.counts", count, 0));
    raise.counts.push_back(count);
  }
  return raise;
}

v1::FamilyDelta ToWire(const FamilyDelta& delta) {
  v1::FamilyDelta wire;
  wire.set_agent(static_cast<uint32_t>(delta.agent));
  wire.set_first(delta.first);
  for (const TextToken& token : delta.tokens) *wire.add_tokens() = conclave::ToWire(token);
  wire.set_thinking(delta.thinking);
  wire.set_answer(delta.answer);
  if (delta.end) {
    v1::AgentEnd* end = wire.mutable_end();
    end->set_cause(static_cast<v1::AgentEnd::Cause>(static_cast<int>(delta.end->cause) + 1));
    end->set_sampled(delta.end->sampled);
    end->set_forced(delta.end->forced);
    end->set_fed(delta.end->fed);
    end->set_trailing(delta.end->trailing);
    if (delta.end->stopped_by.kind != StopCause::Kind::kNone) {
      *wire.mutable_stopped_by() = conclave::ToWire(delta.end->stopped_by);
    }
  }
  return wire;
}

absl::StatusOr<AgentEnding> ReadEnd(const v1::AgentEnd& wire) {
  static_assert(static_cast<int>(Finish::kStop) + 1 == v1::AgentEnd::CAUSE_STOP);
  static_assert(static_cast<int>(Finish::kCancelled) + 1 == v1::AgentEnd::CAUSE_CANCELLED);
  if (!v1::AgentEnd::Cause_IsValid(wire.cause()) ||
      wire.cause() == v1::AgentEnd::CAUSE_UNSPECIFIED) {
    return BadField("delta.end.cause",
                    fmt::format("{} is not a cause", static_cast<int>(wire.cause())));
  }
  RETURN_IF_ERROR(CheckNumber("delta.end.sampled", wire.sampled(), 0));
  RETURN_IF_ERROR(CheckNumber("delta.end.forced", wire.forced(), 0));
  RETURN_IF_ERROR(CheckNumber("delta.end.fed", wire.fed(), 0));
  RETURN_IF_ERROR(CheckNumber("delta.end.trailing", wire.trailing(), 0));
  return AgentEnding{static_cast<Finish>(static_cast<int>(wire.cause()) - 1),
                     wire.sampled(),
                     wire.forced(),
                     wire.fed(),
                     wire.trailing(),
                     {}};
}

absl::StatusOr<FamilyEvent> ReadDelta(const v1::FamilyDelta& wire) {
  RETURN_IF_ERROR(CheckNumber("delta.first", wire.first(), 0));
  if (wire.tokens_size() > kMostInt - wire.first()) return BadField("delta.tokens", "is too long");
  FamilyDelta delta;
  delta.agent = static_cast<AgentId>(wire.agent());
  delta.first = wire.first();
  delta.tokens.reserve(static_cast<size_t>(wire.tokens_size()));
  int64_t text_end = 0;
  for (const v1::ProducedToken& token : wire.tokens()) {
    ASSIGN_OR_RETURN(TextToken read, ReadToken(token, "delta.tokens"));
    if (read.text_end < text_end) return BadField("delta.tokens", "has a text_end that goes back");
    text_end = read.text_end;
    delta.tokens.push_back(read);
  }
  delta.thinking = wire.thinking();
  delta.answer = wire.answer();
  if (wire.has_end()) {
    ASSIGN_OR_RETURN(delta.end, ReadEnd(wire.end()));
    if (wire.has_stopped_by() && delta.end->cause == Finish::kStop) {
      ASSIGN_OR_RETURN(delta.end->stopped_by, FromWire(wire.stopped_by(), "delta.stopped_by"));
    }
  }
  return delta;
}

absl::StatusOr<FamilyEvent> ReadAccepted(const v1::GangAccepted& wire) {
  RETURN_IF_ERROR(CheckGangSize("accepted.agents", wire.agents_size()));
  GangAccepted accepted;
  for (const v1::AcceptedAgent& agent : wire.agents()) {
    RETURN_IF_ERROR(CheckNumber("accepted.agents.prompt_tokens", agent.prompt_tokens(), 0));
    accepted.agents.push_back({static_cast<AgentId>(agent.agent()), agent.prompt_tokens()});
  }
  return accepted;
}

absl::StatusOr<FamilyEvent> ReadRefused(const v1::GangRefused& wire) {
  GangRefused refused;
  ASSIGN_OR_RETURN(refused.agents, ReadIds(wire.agents(), "refused.agents"));
  RETURN_IF_ERROR(CheckNumber("refused.width", wire.width(), 0));
  if (wire.code() < 1 || wire.code() > 16) {
    return BadField("refused.code", fmt::format("{} is not an error code", wire.code()));
  }
  refused.why = MakeStatus(static_cast<absl::StatusCode>(wire.code()), wire.message());
  refused.width = wire.width();
  return refused;
}

absl::StatusOr<FamilyEvent> ReadProbe(const v1::ProbeResult& wire) {
  RETURN_IF_ERROR(CheckRange("probe.at", wire.at(), kMostInt - kMostProbeEvery - 1));
  RETURN_IF_ERROR(CheckRange("probe.sampled", wire.sampled(), kMostProbeTokens));
  RETURN_IF_ERROR(CheckRange("probe.forced", wire.forced(), kMostProbeEvery));
  if (!std::isfinite(wire.logprob_mean())) {
    return BadField("probe.logprob_mean", fmt::format("is {}", wire.logprob_mean()));
  }
  return ProbeResult{.agent = static_cast<AgentId>(wire.agent()),
                     .at = wire.at(),
                     .answer = wire.answer(),
                     .sampled = wire.sampled(),
                     .forced = wire.forced(),
                     .logprob_mean = wire.logprob_mean()};
}

absl::StatusOr<FamilyEvent> ReadTotals(const v1::FamilyEnd& wire) {
  for (const int64_t count : {wire.prompt_computed(), wire.prompt_shared(), wire.sampled(),
                              wire.forced(), wire.fed(), wire.recomputed(), wire.probed()}) {
    RETURN_IF_ERROR(CheckRange("family_end", count, kMostTotal));
  }
  return FamilyTotals{wire.prompt_computed(), wire.prompt_shared(), wire.sampled(),
                      wire.forced(),          wire.fed(),           wire.recomputed(),
                      wire.probed()};
}

// One function for each alternative of a command.
struct CommandWriter {
  v1::RunRequest& wire;

  void operator()(const FamilyOpening& opening) const { *wire.mutable_open() = ToWire(opening); }
  void operator()(const std::vector<AgentRecipe>& gang) const {
    for (const AgentRecipe& recipe : gang) *wire.mutable_add()->add_agents() = ToWire(recipe);
  }
  void operator()(const CancelAgents& cancel) const {
    for (const AgentId id : cancel.agents)
      wire.mutable_cancel()->add_agents(static_cast<uint32_t>(id));
  }
  void operator()(const RaiseRunTo& raise) const {
    for (const AgentId id : raise.agents)
      wire.mutable_run_to()->add_agents(static_cast<uint32_t>(id));
    for (const int count : raise.counts) wire.mutable_run_to()->add_counts(count);
  }
};

// The same for events.
struct EventWriter {
  v1::RunResponse& wire;

  void operator()(const GangAccepted& accepted) const {
    for (const AcceptedAgent& agent : accepted.agents) {
      v1::AcceptedAgent* out = wire.mutable_accepted()->add_agents();
      out->set_agent(static_cast<uint32_t>(agent.id));
      out->set_prompt_tokens(agent.prompt_tokens);
    }
  }
  void operator()(const GangRefused& refused) const {
    v1::GangRefused* out = wire.mutable_refused();
    for (const AgentId id : refused.agents) out->add_agents(static_cast<uint32_t>(id));
    out->set_code(refused.why.raw_code());
    out->set_message(std::string(MessageOf(refused.why)));
    out->set_width(refused.width);
  }
  void operator()(const FamilyDelta& delta) const { *wire.mutable_delta() = ToWire(delta); }
  void operator()(const ProbeResult& probe) const {
    v1::ProbeResult* out = wire.mutable_probe();
    out->set_agent(static_cast<uint32_t>(probe.agent));
    out->set_at(probe.at);
    out->set_answer(probe.answer);
    out->set_sampled(probe.sampled);
    out->set_forced(probe.forced);
    out->set_logprob_mean(probe.logprob_mean);
  }
  void operator()(const FamilyTotals& totals) const {
    v1::FamilyEnd* out = wire.mutable_family_end();
    out->set_prompt_computed(totals.prompt_computed);
    out->set_prompt_shared(totals.prompt_shared);
    out->set_sampled(totals.sampled);
    out->set_forced(totals.forced);
    out->set_fed(totals.fed);
    out->set_recomputed(totals.recomputed);
    out->set_probed(totals.probed);
  }
};

}  // namespace

v1::RunRequest ToWire(const FamilyCommand& command) {
  v1::RunRequest wire;
  std::visit(CommandWriter{wire}, command);
  return wire;
}

absl::StatusOr<FamilyCommand> FromWire(const v1::RunRequest& request) {
  switch (request.command_case()) {
    case v1::RunRequest::kOpen:
      return ReadOpening(request.open());
    case v1::RunRequest::kAdd:
      return ReadAdd(request.add());
    case v1::RunRequest::kCancel: {
      ASSIGN_OR_RETURN(std::vector<AgentId> agents,
                       ReadIds(request.cancel().agents(), "cancel.agents"));
      return CancelAgents{std::move(agents)};
    }
    case v1::RunRequest::kRunTo:
      return ReadRunTo(request.run_to());
    case v1::RunRequest::COMMAND_NOT_SET:
      break;
  }
  return BadField("command", "is not set");
}

v1::RunResponse ToWire(const FamilyEvent& event) {
  v1::RunResponse wire;
  std::visit(EventWriter{wire}, event);
  return wire;
}

absl::StatusOr<FamilyEvent> FromWire(const v1::RunResponse& response) {
  switch (response.event_case()) {
    case v1::RunResponse::kAccepted:
      return ReadAccepted(response.accepted());
    case v1::RunResponse::kRefused:
      return ReadRefused(response.refused());
    case v1::RunResponse::kDelta:
      return ReadDelta(response.delta());
    case v1::RunResponse::kFamilyEnd:
      return ReadTotals(response.family_end());
    case v1::RunResponse::kProbe:
      return ReadProbe(response.probe());
    case v1::RunResponse::EVENT_NOT_SET:
      break;
  }
  return BadField("event", "is not set");
}

v1::WatchLoadResponse ToWire(const GroupLoad& load) {
  v1::WatchLoadResponse wire;
  wire.set_credits(load.credits);
  wire.set_agents_running(load.agents_running);
  wire.set_queued_prompt_tokens(load.queued_prompt_tokens);
  wire.set_blocks_free(load.blocks_free);
  wire.set_blocks_total(load.blocks_total);
  wire.set_ready(load.ready);
  wire.set_epoch(load.epoch);
  return wire;
}

absl::StatusOr<GroupLoad> FromWire(const v1::WatchLoadResponse& wire) {
  RETURN_IF_ERROR(CheckRange("credits", wire.credits(), kMostCredits));
  RETURN_IF_ERROR(CheckNumber("agents_running", wire.agents_running(), 0));
  RETURN_IF_ERROR(CheckNumber("queued_prompt_tokens", wire.queued_prompt_tokens(), 0));
  RETURN_IF_ERROR(CheckNumber("blocks_free", wire.blocks_free(), 0));
  RETURN_IF_ERROR(CheckNumber("blocks_total", wire.blocks_total(), 0));
  return GroupLoad{wire.credits(),     wire.agents_running(), wire.queued_prompt_tokens(),
                   wire.blocks_free(), wire.blocks_total(),   wire.ready(),
                   wire.epoch()};
}

v1::Thinking ToWire(Thinking thinking) {
  return thinking == Thinking::kOn ? v1::THINKING_ON : v1::THINKING_OFF;
}

absl::StatusOr<Thinking> FromWire(v1::Thinking thinking) {
  if (thinking == v1::THINKING_ON) return Thinking::kOn;
  if (thinking == v1::THINKING_OFF) return Thinking::kOff;
  return BadField("thinking", fmt::format("{} is neither OFF nor ON", static_cast<int>(thinking)));
}

}  // namespace conclave
