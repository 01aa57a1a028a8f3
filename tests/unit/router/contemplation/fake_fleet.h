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

namespace conclave::router {

// Random numbers that are the same everywhere (SplitMix64).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t Next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
  }
  int Below(int n) { return static_cast<int>(Next() % static_cast<uint64_t>(n)); }
  int Between(int low, int high) { return low + Below(high - low + 1); }
  bool Chance(int percent) { return Below(100) < percent; }

 private:
  uint64_t state_;
};

// What an agent would say with tokens without end: a pure function of (seed, agent).
struct FakeStream {
  std::vector<TextToken> tokens;
  std::string thinking, answer;

  // Tokens [from, to) as a stream carries them.
  FamilyDelta Cut(AgentId agent, int from, int to) const;
};

// Where an agent ends if nobody ends it.
struct FakeEnd {
  int length = 0;
  Finish cause = Finish::kStop;
};

// What agents say, for one seed.
struct World {
  uint64_t seed = 0;
  int longest = 30;  // Tokens of an agent.
  int answers = 3;   // Different answers.
  int mute = 10;     // Percent of agents without an answer that the key finds.
  int prompt_tokens = 10;
  bool picks = false;         // The aggregation pass says a number.
  int forced_from = 1 << 30;  // The end of thinking is never put before this token.

  const FakeStream& StreamOf(AgentId agent) const;
  // By the definitions of grant and bar.
  FakeEnd EndOf(const AgentRecipe& recipe) const;
  // Whether a copy of it is made when it has `count` tokens: it thinks then.
  bool AsksAt(const AgentRecipe& recipe, int count) const;
  ProbeResult Ask(AgentId agent, int at) const;
  int PromptOf(AgentId agent) const {
    return prompt_tokens + (StageOf(agent) == kAggregateStage ? 7 : 0);
  }

 private:
  mutable std::map<AgentId, FakeStream> streams_;
};

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
    std::deque<int> asked = {};  // Where copies were made that have not answered.
    // It draws no further until then.
    int hold() const { return asked.empty() ? INT32_MAX : asked.front() + recipe.probe_every; }
  };
  struct Run {
    int attempt = 0;
    int wanted = 1;
    std::string model = {};
    std::vector<std::string> fingerprints = {};  // As the places want them.
    bool placed = false, gone = false, finishing = false, over = false;
    bool silent = false, broken = false;
    int room = 0, pool = 0, others = 0;
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
  void Push(FamilyDelta delta);
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
  bool finished_ = false;  // A stream was half-closed: nothing may follow on it.
};

}  // namespace conclave::router
