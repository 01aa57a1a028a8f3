#include "router/api/event_wire.h"

#include <absl/time/time.h>

#include "common/utf8.h"
#include "common/wire/message_wire.h"
#include "common/wire/token_wire.h"

namespace conclave::router {
namespace {

v1::FinishReason ReasonOf(Finish finish) {
  switch (finish) {
    case Finish::kLength:
      return v1::FINISH_REASON_LENGTH;
    case Finish::kBar:
      return v1::FINISH_REASON_BAR;
    default:
      return v1::FINISH_REASON_STOP;
  }
}

v1::CutReason ReasonOf(CutReason reason) {
  switch (reason) {
    case CutReason::kSettled:
      return v1::CUT_REASON_SETTLED;
    case CutReason::kDeadline:
      return v1::CUT_REASON_DEADLINE;
    case CutReason::kDropped:
      return v1::CUT_REASON_DROPPED;
    default:
      return v1::CUT_REASON_STOPPED;
  }
}

v1::Aggregation MethodOf(std::optional<Aggregation> method) {
  if (!method) return v1::AGGREGATION_UNSPECIFIED;
  switch (*method) {
    case Aggregation::kVote:
      return v1::AGGREGATION_VOTE;
    case Aggregation::kSynthesise:
      return v1::AGGREGATION_SYNTHESISE;
    case Aggregation::kWeightedVote:
      return v1::AGGREGATION_WEIGHTED_VOTE;
    case Aggregation::kSelect:
      return v1::AGGREGATION_SELECT;
    case Aggregation::kCheck:
      return v1::AGGREGATION_CHECK;
    default:
      return v1::AGGREGATION_AUTO;
  }
}

void Set(const std::vector<Vote>& votes, google::protobuf::RepeatedPtrField<v1::Vote>* out) {
  for (const Vote& vote : votes) {
    v1::Vote& wire = *out->Add();
    wire.set_answer(std::string(FirstCharacters(vote.answer, kMostVoteTold)));
    wire.set_weight(vote.weight);
    wire.set_count(vote.count);
  }
}

void Set(absl::Duration duration, google::protobuf::Duration* out) {
  const int64_t nanos = absl::ToInt64Nanoseconds(duration);
  out->set_seconds(nanos / 1'000'000'000);
  out->set_nanos(static_cast<int32_t>(nanos % 1'000'000'000));
}

void Set(const Decision& decision, v1::Decision* out) {
  out->set_number(decision.number);
  out->set_kind(
      static_cast<v1::Decision::Kind>(static_cast<int>(decision.kind) + v1::Decision::KIND_JOIN));
  out->set_clock(decision.clock);
  for (const AgentId agent : decision.agents) out->add_agents(static_cast<uint32_t>(agent));
  for (const Cut& cut : decision.cuts) {
    v1::Cut& wire = *out->add_cuts();
    wire.set_agent(static_cast<uint32_t>(cut.agent));
    wire.set_kept(cut.kept);
  }
}

// Where nobody said what stopped the agent, the field stays unset.
template <typename Field>
void Set(const StopCause& cause, Field field) {
  if (cause.kind != StopCause::Kind::kNone) *field() = conclave::ToWire(cause);
}

void Set(const AgentUsage& usage, v1::AgentUsage* out) {
  out->set_agent(static_cast<uint32_t>(usage.agent));
  out->set_prompt_tokens(usage.prompt_tokens);
  out->set_kept(usage.kept);
  out->set_thinking(usage.thinking);
  out->set_discarded(usage.discarded);
  out->set_cut(usage.cut);
  if (!usage.cut) out->set_reason(ReasonOf(usage.reason));
  if (usage.answer) out->set_answer(std::string(FirstCharacters(*usage.answer, kMostVoteTold)));
  out->set_weight(usage.weight);
  out->set_lowest_window_confidence(usage.lowest_window_confidence);
  if (!usage.cut) Set(usage.stopped_by, [out] { return out->mutable_stopped_by(); });
  out->set_thinking_forced(usage.thinking_forced);
  if (usage.cut) out->set_cut_reason(ReasonOf(usage.cut_reason));
  if (usage.accepted) out->set_accepted(*usage.accepted);
  out->set_probes_agreed(usage.probes_agreed);
  out->set_model(usage.model);
}

void Set(const Settings& settings, v1::Settings* out) {
  *out->mutable_sampling() = conclave::ToWire(settings.sampling);
  out->set_thinking_tokens(settings.budget.thinking_tokens);
  out->set_answer_tokens(settings.budget.answer_tokens);
  out->set_min_tokens(settings.budget.min_tokens);
  out->mutable_end_tokens()->Add(settings.end_tokens.begin(), settings.end_tokens.end());
  out->mutable_stop_tokens()->Add(settings.stop_tokens.begin(), settings.stop_tokens.end());
  for (const std::string& text : settings.stop) out->add_stop(text);
}

void Set(const Receipt& receipt, v1::Receipt* out) {
  out->set_request_id(receipt.request_id);
  out->set_model(receipt.model);
  out->set_fingerprint(receipt.fingerprint);
  out->set_decision_version(receipt.decision_version);
  out->set_seed(receipt.seed);
  out->set_time_of_day(receipt.time_of_day);
  out->set_result_hash(receipt.result_hash);
  v1::PromptUsage& prompt = *out->mutable_prompt();
  prompt.set_total(receipt.prompt.total);
  prompt.set_computed(receipt.prompt.computed);
  prompt.set_shared(receipt.prompt.shared);
  prompt.set_first(receipt.prompt.first);
  prompt.set_recomputed(receipt.prompt.recomputed);
  for (const AgentUsage& usage : receipt.agents) Set(usage, out->add_agents());
  out->set_thinking_tokens(receipt.thinking_tokens);
  out->set_answer_tokens(receipt.answer_tokens);
  out->set_aggregation_tokens(receipt.aggregation_tokens);
  out->set_discarded_tokens(receipt.discarded_tokens);
  out->set_agents_cut(receipt.agents_cut);
  out->set_critical_path_tokens(receipt.critical_path_tokens);
  Set(receipt.time_to_first_answer, out->mutable_time_to_first_answer());
  Set(receipt.wall_time, out->mutable_wall_time());
  for (const Decision& decision : receipt.decisions) Set(decision, out->add_decisions());
  Set(receipt.votes, out->mutable_votes());
  out->set_resumes(receipt.resumes);
  out->set_counts_from_stream(receipt.counts_from_stream);
  out->set_probe_tokens(receipt.probe_tokens);
  out->set_aggregator_model(receipt.aggregator_model);
  out->set_aggregator_fingerprint(receipt.aggregator_fingerprint);
  out->mutable_agent_models()->Assign(receipt.agent_models.begin(), receipt.agent_models.end());
  out->mutable_agent_fingerprints()->Assign(receipt.agent_fingerprints.begin(),
                                            receipt.agent_fingerprints.end());
}

// Fills the event's own member of the oneof.
struct Filler {
  v1::GenerateResponse& out;

  void operator()(const Admitted& event) const {
    v1::Admitted& wire = *out.mutable_admitted();
    wire.set_request_id(event.request_id);
    wire.set_model(event.model);
    wire.set_seed(event.seed);
    wire.set_mode(ToWire(event.mode));
    wire.set_agents(event.agents);
    wire.set_fingerprint(event.fingerprint);
    wire.set_time_of_day(event.time_of_day);
    wire.set_decision_version(event.decision_version);
    wire.set_aggregator_fingerprint(event.aggregator_fingerprint);
    wire.mutable_agent_fingerprints()->Assign(event.agent_fingerprints.begin(),
                                              event.agent_fingerprints.end());
  }
  void operator()(const AgentStarted& event) const {
    out.mutable_agent_started()->set_prompt_tokens(event.prompt_tokens);
    out.mutable_agent_started()->set_grant(event.grant);
    out.mutable_agent_started()->set_model(event.model);
  }
  void operator()(const AgentDelta& event) const {
    v1::AgentDelta& wire = *out.mutable_agent_delta();
    wire.set_thinking(event.thinking);
    wire.set_answer(event.answer);
    for (const TokenEvent& token : event.tokens) {
      v1::Token& each = *wire.add_tokens();
      each.set_id(token.id);
      each.set_logprob(token.logprob);
      each.set_kind(conclave::ToWire(token.kind));
      SetTold(token, each);
    }
    wire.set_count(event.count);
  }
  void operator()(const AgentFinished& event) const {
    v1::AgentFinished& wire = *out.mutable_agent_finished();
    wire.set_reason(ReasonOf(event.reason));
    if (event.answer) wire.set_answer(std::string(FirstCharacters(*event.answer, kMostVoteTold)));
    wire.set_confidence(event.confidence);
    wire.set_tokens(event.tokens);
    wire.set_top20_confidence(event.top20_confidence);
    wire.set_lowest_window_confidence(event.lowest_window_confidence);
    wire.set_weight(event.weight);
    if (event.reason == Finish::kStop) {
      Set(event.stopped_by, [&wire] { return wire.mutable_stopped_by(); });
    }
    wire.set_thinking_forced(event.thinking_forced);
    wire.set_probes_agreed(event.probes_agreed);
  }
  void operator()(const AgentCut& event) const {
    out.mutable_agent_cut()->set_reason(ReasonOf(event.reason));
    out.mutable_agent_cut()->set_kept(event.kept);
  }
  void operator()(const VoteUpdate& event) const {
    v1::VoteUpdate& wire = *out.mutable_vote_update();
    Set(event.votes, wire.mutable_votes());
    wire.set_counted(event.counted);
    wire.set_to_come(event.to_come);
    wire.set_stop_value(event.stop_value);
  }
  void operator()(const Decision& event) const { Set(event, out.mutable_decision()); }
  void operator()(const AggregationStarted& event) const {
    out.mutable_aggregation_started()->set_method(MethodOf(event.method));
    out.mutable_aggregation_started()->set_candidates(event.candidates);
    out.mutable_aggregation_started()->set_model(event.model);
  }
  void operator()(const CheckerVerdict& event) const {
    out.mutable_checker_verdict()->set_accepted(event.accepted);
    out.mutable_checker_verdict()->set_reason(event.reason);
  }
  void operator()(const AnswerDelta& event) const {
    out.mutable_answer_delta()->set_text(event.text);
  }
  void operator()(const Completed& event) const {
    v1::Completed& wire = *out.mutable_completed();
    wire.set_answer(std::string(FirstCharacters(event.answer, kMostAnswerTold)));
    wire.set_incomplete(event.incomplete);
    wire.set_method(MethodOf(event.method));
    Set(event.receipt, wire.mutable_receipt());
    Set(event.settings, wire.mutable_settings());
  }
  void operator()(const ProbeAnswer& event) const {
    v1::ProbeAnswer& wire = *out.mutable_probe_answer();
    wire.set_at(event.at);
    if (event.answer) wire.set_answer(std::string(FirstCharacters(*event.answer, kMostVoteTold)));
    wire.set_tokens(event.tokens);
  }
  void operator()(const GroupChanged& event) const {
    out.mutable_group_changed()->set_reason(event.reason);
    out.mutable_group_changed()->set_resumed(event.resumed);
  }
};

}  // namespace

v1::Mode ToWire(Mode mode) {
  switch (mode) {
    case Mode::kInstant:
      return v1::MODE_INSTANT;
    case Mode::kThinking:
      return v1::MODE_THINKING;
    default:
      return v1::MODE_CONTEMPLATING;
  }
}

v1::GenerateResponse ToWire(const ClientEvent& event) {
  v1::GenerateResponse wire;
  wire.set_sequence(event.sequence);
  wire.set_agent(static_cast<uint32_t>(event.agent));
  std::visit(Filler{wire}, event.what);
  return wire;
}

}  // namespace conclave::router
