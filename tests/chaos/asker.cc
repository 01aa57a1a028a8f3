#include "tests/chaos/asker.h"

#include <absl/time/clock.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "tests/integration/program.h"

namespace conclave {
namespace {

// A request that takes longer is lost.
constexpr absl::Duration kPatience = absl::Minutes(3);

// A channel of its own, which looks for a router that comes back more often than the default.
std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5000);  // What one try may take.
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 100);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

// Reads a stream, and says which rule it breaks.
class Reading {
 public:
  explicit Reading(Seen& seen) : seen_(seen) {}

  void Read(const v1::GenerateResponse& event) {
    const int64_t number = ++seen_.events;
    Expect(event.sequence() == number, "event {} has sequence {}", number, event.sequence());
    Expect(!ended_, "event {} follows the last one", number);
    Expect(event.has_admitted() == (number == 1), "Admitted is not exactly the first event");
    SeenAgent* agent = nullptr;
    if (event.has_agent_started() || event.has_agent_delta() || event.has_agent_finished() ||
        event.has_agent_cut()) {
      agent = &seen_.agents[event.agent()];
    }
    if (event.has_agent_started()) ++agent->started;
    if (event.has_agent_finished()) ++agent->finished;
    if (event.has_agent_cut()) ++agent->cut;
    if (event.has_agent_delta()) ReadDelta(event.agent_delta(), event.agent(), *agent);
    if (event.has_answer_delta()) seen_.answer += event.answer_delta().text();
    if (event.has_decision()) seen_.decisions.push_back(event.decision());
    if (event.has_group_changed()) ReadChange(event.group_changed());
    if (event.has_completed()) {
      ended_ = true;
      seen_.completed = event.completed();
    }
  }

  void End() {
    // A router that is killed between the two leaves Completed without a word after it.
    const bool killed = seen_.status.error_code() == grpc::StatusCode::UNAVAILABLE;
    Expect(seen_.status.ok() == ended_ || (ended_ && killed), "Completed {}, status {}", ended_,
           seen_.status.error_message());
    for (const auto& [id, agent] : seen_.agents) {
      Expect(agent.started <= 1 && agent.finished <= 1 && agent.cut <= 1,
             "agent {} started {} times, finished {}, was cut {}", id, agent.started,
             agent.finished, agent.cut);
    }
    if (ended_) CheckReceipt();
  }

 private:
  template <typename... Args>
  void Expect(bool holds, fmt::format_string<const Args&...> what, const Args&... args) {
    if (!holds && seen_.fault.empty()) seen_.fault = fmt::format(what, args...);
  }

  void ReadDelta(const v1::AgentDelta& delta, uint32_t id, SeenAgent& agent) {
    lost_in_a_row_ = 0;
    resumed_ = resumed_ || started_before_a_loss_.contains(id);
    Expect(agent.started == 1, "agent {} speaks before it started", id);
    agent.text += delta.thinking() + delta.answer();
    for (const v1::Token& token : delta.tokens()) {
      agent.tokens.push_back(token.id());
      agent.logprobs.push_back(token.logprob());
    }
    Expect(static_cast<int>(agent.tokens.size()) == delta.count(),
           "agent {} has told {} tokens and counts {}", id, agent.tokens.size(), delta.count());
  }

  void ReadChange(const v1::GroupChanged& change) {
    Expect(!change.reason().empty(), "a group changed without a word");
    if (change.resumed()) {
      ++seen_.resumed;
    } else {
      ++seen_.lost;
      for (const auto& [id, agent] : seen_.agents) {
        if (agent.started > 0) started_before_a_loss_.insert(id);
      }
      seen_.lost_in_a_row = std::max(seen_.lost_in_a_row, ++lost_in_a_row_);
    }
  }

  // What happened on the stream is what the receipt tells.
  void CheckReceipt() {
    const v1::Receipt& receipt = seen_.completed.receipt();
    Expect(seen_.answer == seen_.completed.answer(), "the answer's deltas are not the answer");
    Expect(receipt.decisions_size() == static_cast<int>(seen_.decisions.size()),
           "{} decisions were told, {} are on the receipt", seen_.decisions.size(),
           receipt.decisions_size());
    int64_t kept = 0;
    for (const v1::AgentUsage& usage : receipt.agents()) {
      kept += usage.kept();
      const SeenAgent& agent = seen_.agents[usage.agent()];
      const auto told = static_cast<int>(agent.tokens.size());
      Expect(usage.cut() ? told >= usage.kept() : told == usage.kept(),
             "agent {} told {} tokens and kept {}", usage.agent(), told, usage.kept());
      Expect(told <= usage.kept() + usage.discarded(), "agent {} told {} tokens of {} and {}",
             usage.agent(), told, usage.kept(), usage.discarded());
    }
    const int64_t sum =
        receipt.thinking_tokens() + receipt.answer_tokens() + receipt.aggregation_tokens();
    Expect(kept == sum, "agents kept {} tokens, the sums say {}", kept, sum);
    // A loss before anybody started cost nothing.
    Expect(!resumed_ || receipt.resumes() > 0, "agents went on after a loss, no resumes counted");
    Expect(receipt.resumes() == 0 || seen_.resumed > 0, "{} resumes, and no return was told",
           receipt.resumes());
    Expect(started_before_a_loss_.empty() || receipt.counts_from_stream(),
           "{} losses, and the counts are said to be the engine's", seen_.lost);
  }

  Seen& seen_;
  std::set<uint32_t> started_before_a_loss_;
  bool resumed_ = false;
  int lost_in_a_row_ = 0;
  bool ended_ = false;
};

}  // namespace

Asker::Asker(const std::string& address) : stub_(v1::ConclaveService::NewStub(Connect(address))) {}

Seen Asker::Ask(const v1::GenerateRequest& request, const OnEvent& on_event) {
  Seen seen;
  Reading reading(seen);
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  context.set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
  auto reader = stub_->Generate(&context, request);
  v1::GenerateResponse event;
  while (reader->Read(&event)) {
    if (on_event) on_event(event);
    reading.Read(event);
  }
  seen.status = reader->Finish();
  reading.End();
  return seen;
}

Seen Asker::AskOnceServed(const v1::GenerateRequest& request) {
  Seen seen;
  Eventually(absl::Minutes(1), [&] {
    seen = Ask(request);
    return seen.status.error_code() != grpc::StatusCode::UNAVAILABLE || seen.events > 0;
  });
  return seen;
}

}  // namespace conclave
