#pragma once

#include <absl/status/status.h>

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "router/contemplation/client_outbox.h"
#include "router/contemplation/family.h"
#include "router/contemplation/plan.h"
#include "tests/unit/router/contemplation/fake_fleet.h"

namespace conclave::router {

// A request and the world that it meets, all drawn from one number.
struct Scenario {
  uint64_t seed = 0;
  Request request;
  ModelDescription model;
  std::optional<ModelDescription> aggregator;  // Whose the pass is.
  std::vector<ModelDescription> others;        // Whose agents there are besides.
  Limits limits;
  World world;

  absl::StatusOr<Plan> MakePlan() const {
    return router::MakePlan(request, model, limits, aggregator ? &*aggregator : nullptr, others);
  }
  Chaos chaos;
  bool calm = false;  // Nothing goes wrong and no clock runs out; agents may join late.
  int stop_at = -1;   // The turn at which it is stopped; negative: none.
  // Per mille of the turns.
  int lose = 0, leave = 0;
  // Percent of them.
  int slow_client = 0, slow_clock = 0;
};

Scenario MakeScenario(uint64_t seed);
// The same with votes by weight, a bar, or both.
Scenario MakeWeightedScenario(uint64_t seed);
// In waves, of more agents.
void AddWaves(Scenario& scenario);
// With a checker of some kind.
void AddChecker(Scenario& scenario);
// With a pass that picks a candidate.
void AddSelection(Scenario& scenario);
// With agents that are asked for their answers so far.
void AddProbes(Scenario& scenario);
// In rounds, or in parts; before AddWaves.
void AddRounds(Scenario& scenario);
// With a pass of another model, whose groups may be missing; after AddRounds and AddSelection.
void AddAggregator(Scenario& scenario);
// With agents of several models; after AddRounds, AddWaves and AddProbes.
void AddModels(Scenario& scenario);
// The same request again, in other weather, led by what the receipt says.
Scenario MakeReplay(const Scenario& scenario, const Receipt& receipt, uint64_t weather);

struct Outcome {
  absl::Status status;
  bool lost_any = false;  // A group was lost, or served with another fingerprint.
  std::optional<Completed> completed;
  std::map<AgentId, std::string> told;  // What those were told that entered.
  int events = 0;
};

// Looks at everything that a Contemplation says, after every event, and fails the test when a rule
// is broken.
class Watcher {
 public:
  Watcher(const Plan& plan, const World& world) : plan_(plan), world_(world) {}

  void See(const std::vector<Command>& commands, absl::Time now);
  // The client takes one event.
  void Read();
  // At the end: the client reads the rest, and the bill is added up.
  void Close(const FakeFleet& fleet);

  bool done() const { return ends_ > 0; }
  absl::Time wake() const { return wake_; }
  const absl::Status& status() const { return status_; }
  const std::optional<Completed>& completed() const { return completed_; }

 private:
  void SeeOpen(const OpenRun& open);
  void SeeGang(const AddGang& gang);
  void CheckWave(AgentId agent);
  void CheckRound(AgentId agent);
  void ReadEvent(const ClientEvent& event);
  void ReadDelta(AgentId agent, const AgentDelta& delta);
  void ReadDecision(const Decision& decision);
  void ReadCompleted(const Completed& completed);
  void CheckBudget();
  void CheckBill(const FakeFleet& fleet);
  void CheckReceipt(const Receipt& receipt, const FakeFleet& fleet);
  AgentRecipe RecipeOf(AgentId agent) const;
  void CheckBar(const AgentUsage& usage);
  std::string AnswerOf(const AgentUsage& usage) const;
  bool Speaks(const Receipt& receipt, int round, bool stopped) const;
  int VotingRound(const Receipt& receipt) const;
  static std::map<std::string, Vote> VotesOf(const Receipt& receipt, int round);
  void CheckVotes(const Completed& completed);
  void CheckVerdicts(const Completed& completed);

  const Plan& plan_;
  const World& world_;
  ClientOutbox outbox_;
  absl::Time wake_ = absl::InfiniteFuture();
  int ends_ = 0;
  absl::Status status_;
  Bill bill_;  // Where there is no receipt.
  std::optional<Completed> completed_;
  bool closed_by_completed_ = false;
  std::vector<PlaceWanted> places_;        // Of the attempt.
  std::map<AgentId, std::string> models_;  // Of those that were sent.

  std::set<AgentId> out_;            // Counted, cut, or kept out.
  std::map<AgentId, int64_t> held_;  // Granted; once it is counted or cut, kept.
  std::map<AgentId, int> read_;      // Tokens that the client has.
  std::map<AgentId, std::string> thinking_, answers_;
  std::map<AgentId, int> kept_;
  std::map<AgentId, bool> verdicts_;
  std::vector<Decision> decisions_;
  int64_t sequence_ = 0;
  std::string answer_;
  bool admitted_ = false, complete_read_ = false;
};

// Runs one history to its end.
Outcome RunHistory(const Scenario& scenario, const Plan& plan);

// Whether they are the same votes; weights may have been added up in another order.
bool SameVote(const Vote& a, const Vote& b);
// What an agent's vote weighs, by the definition: of its first `kept` tokens.
double WeightByDefinition(const Plan& plan, const World& world, AgentId agent, int kept);

// What an answer is and whether the checker accepts it, by the definition; the first is none where
// nothing is found, the second where nobody looked.
struct AnswerByDefinition {
  std::optional<std::string> answer;
  std::optional<bool> accepted = {};
};
AnswerByDefinition Defined(const Plan& plan, const std::string& text);
// Where an agent ends whose copies agree before it ends by itself, by the definition.
struct Agreed {
  int length = 0;
  std::string text;
};
std::optional<Agreed> AgreedEnd(const Plan& plan, const World& world, const AgentRecipe& recipe);

// What must come out when nothing is decided, computed from the rules of token time directly.
struct Expected {
  std::string answer;
  bool incomplete = false;
  std::optional<Aggregation> method;
  std::optional<bool> accepted = {};
  std::map<AgentId, int> kept;
  std::vector<Vote> votes;
  int64_t critical_path = 0;
};
Expected Reckon(const Plan& plan, const World& world);

}  // namespace conclave::router
