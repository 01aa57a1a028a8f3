#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "router/contemplation/event.h"
#include "tests/unit/router/contemplation/fake_world.h"

namespace conclave::router {

// What groups serve: the agents' model, and another one; each has one fingerprint.
inline constexpr const char* kAgentsModel = "m";
inline constexpr const char* kOtherModel = "o";

// What goes wrong, in percent of the occasions.
struct Chaos {
  int least_room = 64, most_room = 64;  // Agents that a group can run at a time.
  int least_pool = 64;                  // Agents that its empty pool holds, at least.
  int refuse = 0;                       // A gang finds no room although there is some.
  int no_place = 0;                     // Nobody takes an attempt.
  int hasty_cancel = 50;                // A cancel overtakes tokens.
  int coalesce = 50;                    // How much gathers before it is sent.
  bool tells_credits = true;
  int slow = 0;           // Agents that a group draws for seldom.
  int odd_width = 0;      // A gang is refused for good, with whatever width.
  int foreign = 0;        // A group has another fingerprint.
  bool no_other = false;  // No group of another model than the agents' is there.
  int busy = 0;           // A group runs agents of others, and says so.
  // Per mille of the turns.
  int tide = 0;    // Room comes or goes, and the credits are told.
  int silent = 0;  // The group says nothing any more, and is not lost.
  int broken = 0;  // What the group says next breaks the stream's rules. It is lost soon after.
};

// Groups in memory. Obeys commands with delay, and says in order, one event at a time, what
// happened. Fails the test when a command breaks the stream's rules or resumes with other tokens.
class FakeFleet {
 public:
  FakeFleet(const World& world, const Chaos& chaos, uint64_t seed);

  void Obey(const Command& command);
  // Something happens on the live attempt: a place is found, a command arrives, tokens are drawn.
  void Work();
  // The next event that has arrived.
  std::optional<decltype(Event::what)> Deliver();
  // The group is lost; what it had not sent is gone.
  void Lose();
  // Whether nothing will happen unless somebody acts, or time goes by.
  bool Idle() const;
  bool serving() const { return run_ && run_->placed && !run_->gone; }
  // Whether an attempt was neither closed nor has ended.
  bool open() const { return run_.has_value(); }

  // Tokens that were delivered of each agent.
  const std::map<AgentId, int>& delivered() const { return delivered_; }
  // What each agent was told that was accepted; the family's messages are not repeated.
  const std::map<AgentId, std::string>& told() const { return told_; }
  bool lost_any() const { return lost_any_; }
  // Tokens of copies, as a bill must have them.
  int64_t probed() const { return probed_; }

 private:
  struct Seated {
    AgentId id{};
    const FakeStream* stream = nullptr;
    int fed = 0, count = 0, run_to = 0;
    FakeEnd end = {};
    bool ended = false;
    bool slow = false;
    AgentRecipe recipe = {};
    int place = 0;
    std::deque<int> asked = {};  // Where copies were made that have not answered.
    // It draws no further until then.
    int hold() const { return asked.empty() ? INT32_MAX : asked.front() + recipe.probe_every; }
  };
  struct Run {
    int attempt = 0;
    int wanted = 1;
    std::string model = {};
    std::vector<std::string> fingerprints = {};  // As the places want them.
    bool placed = false, gone = false, over = false;
    std::set<int> told_to_finish = {}, finishing = {};  // Places.
    bool silent = false, broken = false;
    int room = 0, pool = 0, others = 0;
    int laggard = -1;  // A place that obeys late.
    // Tokens of copies; of those whose answers arrived; and again, after a loss.
    int64_t probed = 0, heard = 0, again = 0;
    std::vector<Seated> seated;
    std::deque<Command> inbox;
    std::deque<decltype(Event::what)> outbox;
  };

  void FindPlace();
  int Others();
  void ObeyNext();
  void Draw();
  void Answer(Seated& agent);
  void Forget();
  void Add(const AddGang& gang);
  void End(Seated& agent, Finish cause);
  void Push(FamilyDelta delta, int place);
  void Turn();
  void Repeat(FamilyDelta& delta);
  void Break();
  void EndFamily();
  int Running() const;

  const World& world_;
  const Chaos chaos_;
  Random random_;
  std::optional<Run> run_;
  std::map<AgentId, int> delivered_;
  std::set<std::pair<AgentId, int>> answered_;  // Copies whose answers arrived.
  std::map<AgentId, std::string> told_;
  bool lost_any_ = false;
  int64_t probed_ = 0;
};

}  // namespace conclave::router
