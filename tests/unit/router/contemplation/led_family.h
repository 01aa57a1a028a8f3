#pragma once

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "router/contemplation/family.h"
#include "router/contemplation/plan.h"

namespace conclave::router {

inline AgentId Thinker(int index) { return MakeAgentId(kThinkStage, 0, index); }
inline constexpr AgentId kSynthesiser = MakeAgentId(kAggregateStage, 0, 0);

// A family that a test leads event by event, on a clock of its own. A token says one letter of an
// agent's answer; words are as many tokens as they have letters, and the last one ends the agent
// when the words end in '.'.
class LedFamily : public ::testing::Test {
 protected:
  LedFamily();

  // Starts request_ (contemplating, unless it says otherwise) with limits_.
  void Begin();
  void Begin(int agents, int least);
  // The same request again, led by `receipt`.
  void BeginReplay(const Receipt& receipt);

  void Tell(decltype(Event::what) what);
  void Place(int credits, const std::string& fingerprint = "f");
  void Accept(const AddGang& gang);
  // Whatever was sent and not answered yet.
  void AcceptAll();
  void Refuse(const AddGang& gang, const absl::Status& why, int width = 0);
  // The agent goes on with these words.
  void Say(AgentId agent, const std::string& words);
  // A copy of the agent, made when it had `at` tokens, answers; it was given 2 tokens and drew 3.
  void Answer(AgentId agent, int at, const std::string& answer);
  // Its group cancelled it, or that was its end without a token.
  void End(AgentId agent, Finish cause);
  void Lose(const absl::Status& why);
  // Time goes by; the family is woken when it wants to be.
  void Pass(absl::Duration time);
  void EndFamily();
  // Nothing has happened yet.
  void Forget();
  // A replay of `receipt` in which everyone says what he said in this run. Its outcome is in
  // completed() and failed_.
  void Replay(const Receipt& receipt);

  template <typename T>
  int CountOf() const {
    return static_cast<int>(std::count_if(events_.begin(), events_.end(), [](const auto& event) {
      return std::holds_alternative<T>(event.what);
    }));
  }
  std::vector<Decision> Decisions() const;
  // REQUIRES: the request has completed.
  const Completed& completed() const;
  bool is_done() const { return failed_ || succeeded_; }

  Request request_;
  ModelDescription model_;
  std::optional<ModelDescription> aggregator_;  // Whose the pass is.
  std::vector<ModelDescription> others_;        // Whose agents there are besides.
  Limits limits_;
  absl::Time now_ = absl::FromUnixSeconds(1000);
  std::optional<Contemplation> family_;
  int attempt_ = 0;
  std::vector<OpenRun> opened_;  // Attempts.
  std::vector<AddGang> gangs_;
  std::vector<CancelAgents> cancels_;
  std::vector<int> finishes_;  // Places.
  std::vector<ClientEvent> events_;
  absl::Time wake_ = absl::InfiniteFuture();
  std::optional<absl::Status> failed_;
  Bill bill_;  // Of who failed.
  bool succeeded_ = false, finished_ = false, closed_ = false, placing_ = false;

 private:
  int PlaceOf(AgentId agent) const;

  size_t answered_ = 0;                   // Of gangs_.
  std::map<AgentId, std::string> words_;  // What each has said.
};

}  // namespace conclave::router
