#include "tests/chaos/load.h"

#include <absl/time/clock.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <utility>

#include "tests/chaos/question.h"
#include "tests/integration/replay.h"

namespace conclave {
namespace {

// Losses in a row, without a token between, after which a family is given up (exact_rules 5).
constexpr int kMostLosses = 3;

constexpr size_t kMostFaults = 10;  // That are told in words.

bool IsPrefix(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  return a.size() <= b.size() && std::equal(a.begin(), a.end(), b.begin());
}

// Empty, or where two runs of one request differ. A cut agent may have told more of its text, or
// less; nobody ever told another text.
std::string Difference(const Seen& seen, const Seen& other) {
  if (seen.completed.answer() != other.completed.answer()) return "another answer";
  if (seen.completed.receipt().result_hash() != other.completed.receipt().result_hash()) {
    return "another result hash";
  }
  for (const auto& [id, agent] : seen.agents) {
    const auto found = other.agents.find(id);
    if (found == other.agents.end()) return fmt::format("agent {} is new", id);
    const SeenAgent& then = found->second;
    const bool longer = agent.tokens.size() > then.tokens.size();
    if (!IsPrefix(longer ? then.tokens : agent.tokens, longer ? agent.tokens : then.tokens)) {
      return fmt::format("agent {} told other tokens", id);
    }
    const size_t both = std::min(agent.text.size(), then.text.size());
    if (agent.text.compare(0, both, then.text, 0, both) != 0) {
      return fmt::format("agent {} told another text", id);
    }
    if (agent.cut + then.cut == 0 && agent.text.size() != then.text.size()) {
      return fmt::format("agent {} told more or less", id);
    }
  }
  return "";
}

bool HasDrop(const Seen& seen) {
  return std::any_of(seen.decisions.begin(), seen.decisions.end(), [](const auto& decision) {
    return decision.kind() == v1::Decision::KIND_DROP;
  });
}

void Fault(int& count, Outcomes& outcomes, const Seen& seen, std::string_view words) {
  ++count;
  outcomes.faults.push_back(fmt::format(
      "{}; status {} \"{}\"; {} events, {} losses told, {} returns; receipt {}", words,
      static_cast<int>(seen.status.error_code()), seen.status.error_message(), seen.events,
      seen.lost, seen.resumed, seen.completed.receipt().ShortDebugString()));
}

}  // namespace

Load::Load(const std::string& address, int clients)
    : address_(address),
      moves_(static_cast<size_t>(clients)),
      marks_(static_cast<size_t>(clients)),
      outcomes_(3) {
  Asker asker(address);
  for (int i = 0; i < kQuestions; ++i) {
    undisturbed_.push_back(asker.AskOnceServed(Question(i)));
    const Seen& seen = undisturbed_.back();
    EXPECT_TRUE(seen.status.ok()) << seen.status.error_message();
    EXPECT_EQ(seen.fault, "") << "question " << i;
    EXPECT_EQ(seen.lost + seen.resumed, 0);
  }
  for (int i = 0; i < clients; ++i) threads_.emplace_back([this, i] { Run(i); });
}

Load::~Load() { Stop(); }

const std::vector<Outcomes>& Load::Stop() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  stop_ = true;
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  return outcomes_;
}

bool Load::EachMoved() const {
  for (size_t i = 0; i < moves_.size(); ++i) {
    if (moves_[i].load() == marks_[i].load()) return false;
  }
  return true;
}

void Load::Mark() {
  for (size_t i = 0; i < moves_.size(); ++i) marks_[i] = moves_[i].load();
  first_word_ns_ = 0;
}

std::optional<absl::Time> Load::first_word() const {
  const int64_t at = first_word_ns_.load();
  if (at == 0) return std::nullopt;
  return absl::FromUnixNanos(at);
}

void Load::NoteWord() {
  int64_t none = 0;
  first_word_ns_.compare_exchange_strong(none, absl::GetCurrentTimeNanos());
}

void Load::Note(const v1::GenerateResponse& event, int client) {
  if (event.has_group_changed() && !event.group_changed().resumed()) NoteWord();
  if (!event.has_agent_delta()) return;
  ++progress_;
  ++moves_[static_cast<size_t>(client)];
}

Outcomes& Load::OutcomesOf(const v1::GenerateRequest& request) {
  switch (request.on_loss()) {
    case v1::ON_LOSS_CONTINUE:
      return outcomes_[1];
    case v1::ON_LOSS_FAIL:
      return outcomes_[2];
    default:
      return outcomes_[0];
  }
}

void Load::Run(int client) {
  Asker asker(address_);
  // A stride that reaches every question, and each on_loss soon.
  for (int i = client; !stop_; i = (i + 5) % kQuestions) {
    const v1::GenerateRequest request = Question(i);
    Outcomes outcomes;
    const Seen seen = AskUntilAnswered(asker, request, client, outcomes);
    Judge(asker, i, seen, client, outcomes);
    ++answers_;
    absl::MutexLock lock(&mutex_);
    Outcomes& all = OutcomesOf(request);
    const std::pair<int&, int> sums[] = {{all.asked, outcomes.asked},
                                         {all.met_a_loss, outcomes.met_a_loss},
                                         {all.resumed, outcomes.resumed},
                                         {all.from_the_rest, outcomes.from_the_rest},
                                         {all.replayed, outcomes.replayed},
                                         {all.failed_as_asked, outcomes.failed_as_asked},
                                         {all.asked_again, outcomes.asked_again},
                                         {all.lost, outcomes.lost},
                                         {all.doubled, outcomes.doubled},
                                         {all.different, outcomes.different}};
    for (const auto& [sum, one] : sums) sum += one;
    for (std::string& each : outcomes.faults) {
      if (all.faults.size() < kMostFaults) {
        all.faults.push_back(fmt::format("question {}: {}", i, std::move(each)));
      }
    }
  }
}

// A request whose router was killed, or that was refused before it was admitted, is asked again:
// the same question and seed.
Seen Load::AskUntilAnswered(Asker& asker, const v1::GenerateRequest& request, int client,
                            Outcomes& outcomes) {
  constexpr absl::Duration kPatience = absl::Minutes(2), kPause = absl::Milliseconds(20);
  const absl::Time end = absl::Now() + kPatience;
  ++outcomes.asked;
  while (true) {
    const int routers_before = routers_gone_;
    Seen seen = asker.Ask(request, [&](const auto& event) { Note(event, client); });
    ++moves_[static_cast<size_t>(client)];
    const bool unavailable = seen.status.error_code() == grpc::StatusCode::UNAVAILABLE;
    const bool router_gone = routers_gone_ != routers_before;
    if (!unavailable || (!router_gone && seen.events > 0) || absl::Now() > end) return seen;
    if (!seen.fault.empty()) Fault(outcomes.doubled, outcomes, seen, seen.fault);
    if (router_gone) NoteWord();
    ++outcomes.asked_again;
    absl::SleepFor(kPause);  // As whoever is told to come back later.
  }
}

void Load::Judge(Asker& asker, int question, const Seen& seen, int client, Outcomes& outcomes) {
  const v1::OnLoss on_loss = Question(question).on_loss();
  if (seen.lost > 0) ++outcomes.met_a_loss;
  outcomes.resumed += seen.completed.receipt().resumes();
  if (!seen.fault.empty()) Fault(outcomes.doubled, outcomes, seen, seen.fault);
  if (!seen.status.ok()) {
    const bool told = seen.lost > 0 && seen.status.error_code() == grpc::StatusCode::UNAVAILABLE &&
                      !seen.status.error_message().empty();
    if (told && on_loss != v1::ON_LOSS_RESUME) {
      ++outcomes.failed_as_asked;
    } else if (!told || seen.lost_in_a_row < kMostLosses) {
      Fault(outcomes.lost, outcomes, seen, "no answer");
    }
    return;
  }
  if (HasDrop(seen)) return JudgeRest(asker, question, seen, client, outcomes);
  const std::string difference = Difference(seen, undisturbed_[static_cast<size_t>(question)]);
  if (!difference.empty()) Fault(outcomes.different, outcomes, seen, difference);
}

// The answer of the agents that were there is one that a replay of its receipt gives again.
void Load::JudgeRest(Asker& asker, int question, const Seen& seen, int client, Outcomes& outcomes) {
  const v1::GenerateRequest request = Question(question);
  ++outcomes.from_the_rest;
  if (request.on_loss() != v1::ON_LOSS_CONTINUE || seen.lost == 0) {
    Fault(outcomes.different, outcomes, seen, "agents were dropped unasked");
  }
  v1::GenerateRequest again = ReplayOf(request, seen.completed.receipt());
  again.set_on_loss(v1::ON_LOSS_RESUME);
  const Seen replayed = AskUntilAnswered(asker, again, client, outcomes);
  --outcomes.asked;
  if (!replayed.fault.empty()) Fault(outcomes.doubled, outcomes, replayed, replayed.fault);
  if (!replayed.status.ok()) {
    if (replayed.lost_in_a_row < kMostLosses) {
      Fault(outcomes.lost, outcomes, replayed, "no replay");
    }
    return;
  }
  ++outcomes.replayed;
  const std::string difference = Difference(replayed, seen);
  if (!difference.empty()) {
    Fault(outcomes.different, outcomes, replayed, "replayed: " + difference);
  }
}

}  // namespace conclave
