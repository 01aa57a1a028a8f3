#include "common/status.h"
#include "router/contemplation/course.h"

// What copies of agents say that are asked for their answer so far.
namespace conclave::router {

void Contemplation::Course::Visit(const Probed& probed) {
  if (probed.attempt != attempt_ || (line_ != Line::kOpen && line_ != Line::kFinished)) return;
  const auto id = static_cast<uint32_t>(probed.result.agent);
  Agent* agent = Find(probed.result.agent);
  if (agent == nullptr || agent->seat != Seat::kTaken || agent->model != probed.place ||
      agent->recipe.probe_every == 0) {
    return Break(DataLoss("a copy of agent {} answered, which nobody asks", id));
  }
  if (const absl::Status status = Hear(*agent, probed.result); !status.ok()) {
    Break(Annotate(status, fmt::format("agent {}", id)));
  }
}

// An agent waits for a copy of it when it has probe_every tokens more: so what is known of its
// copies at a count never depends on when they answered.
absl::Status Contemplation::Course::Hear(Agent& agent, const ProbeResult& probe) {
  const int count = agent.transcript.count();
  const int every = agent.recipe.probe_every;
  if (probe.at < 1 || probe.at > count || count - probe.at > every) {
    return DataLoss("its copy at {} answered when it had {} tokens", probe.at, count);
  }
  if (probe.at <= agent.asked.last_here) {
    return DataLoss("its copy at {} answered after the one at {}", probe.at, agent.asked.last_here);
  }
  agent.asked.last_here = probe.at;
  // The end of thinking and the answer: the plan has seen to it that they fit.
  if (probe.sampled < 0 || probe.sampled > agent.recipe.probe_tokens || probe.forced < 0 ||
      probe.forced > every - probe.sampled) {
    return DataLoss("its copy at {} has {} tokens drawn and {} forced; {} are allowed in all",
                    probe.at, probe.sampled, probe.forced, every);
  }
  const int until = probe.at + every;
  const int tokens = probe.sampled + probe.forced;
  // After a resumption they may come again.
  CopiesSaid& asked = agent.asked;
  if (probe.at <= asked.last) {
    prompts_.ProbedAgain(tokens);
    return absl::OkStatus();
  }
  prompts_.Probed(tokens);
  if (!Runs(agent)) return absl::OkStatus();
  asked.last = probe.at;
  std::optional<std::string> answer;
  if (const auto& key = KeyOf(agent)) answer = key->Extract(probe.answer);
  EmitEvent(agent.recipe.id, ProbeAnswer{.at = probe.at, .answer = answer, .tokens = tokens});
  if (asked.ends_at) return absl::OkStatus();
  asked.agreeing = !answer ? 0 : answer == asked.answer ? asked.agreeing + 1 : 1;
  asked.answer = std::move(answer);
  asked.text = probe.answer;
  if (plan_.probes_agree == 0 || asked.agreeing < plan_.probes_agree) return absl::OkStatus();
  // With the first token that cannot come before this does: as every end comes with its last token,
  // whoever stands at a clock does not end there any more.
  asked.ends_at = until + 1;
  return absl::OkStatus();
}

// Ends an agent that has come as far as its copies' agreement lets it.
void Contemplation::Course::EndAgreed(Agent& agent) {
  if (!agent.asked.ends_at || agent.transcript.count() < *agent.asked.ends_at) return;
  agent.end = Finish::kStop;
  agent.agreed = true;
  tally_.End(agent.recipe.id);
  Cancel({agent.recipe.id});
}

// What it says: its own answer up to what is kept, or what its copies agreed on.
std::string_view Contemplation::Course::AnswerOf(const Agent& agent) const {
  return agent.agreed ? agent.asked.text : agent.transcript.AnswerAt(*agent.kept);
}

}  // namespace conclave::router
