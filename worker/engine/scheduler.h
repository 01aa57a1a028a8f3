#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "worker/engine/admission.h"
#include "worker/engine/engine.h"
#include "worker/engine/kv_cache.h"
#include "worker/engine/sequence.h"
#include "worker/engine/slot_book.h"
#include "worker/step.h"

namespace conclave::worker {

// What became of one agent.
struct Progress {
  FamilyKey family = 0;
  AgentId agent{};
  int first = 0;  // Index of tokens[0] after the prompt; of a copy, where it was made.
  std::vector<TokenEvent> tokens;
  std::optional<AgentEnd> end;
  bool of_copy = false;  // They are the tokens of a copy that was asked.
};

// Which rows run in which step. Pure: calls in, plans out; no clock, thread or device.
//
// Each plan takes the next rows of those that run first, then pieces of prompts, older families
// before younger ones and, within a family, those behind before those ahead. Who needs a block of
// the tree that this very plan computes uses it; nobody waits for another's. When room runs dry,
// blocks that nobody holds are evicted, then agents give theirs away in the reverse order. They
// return before new gangs enter, and compute all their tokens again (what is still in the tree is
// found there).
//
// Copies that are asked (ProbeRules) get rows behind all agents and take no room from them; one
// that finds none waits, as its agent does in the end. It then may have its agent's slot.
//
// At most two plans may be in flight: Next is called again before Apply. REQUIRES: shape and
// options were found usable (see KvCache::UsableBlocks), and families, where they are named, are
// open.
class Scheduler {
 public:
  Scheduler(const EngineOptions& options, const GroupShape& shape, int num_blocks);

  void Open(FamilyKey family, const FamilySpec& spec);
  // Forgets the family. REQUIRES: none of its agents live.
  FamilyCounters Close(FamilyKey family);

  // All agents of the gang enter, or none and nothing is kept.
  Admission Add(FamilyKey family, std::vector<AgentSpec> gang);
  // Of an unknown or ended agent: nothing happens.
  void RunTo(FamilyKey family, AgentId agent, int count);
  void Cancel(FamilyKey family, AgentId agent);
  void CancelAll(FamilyKey family);

  // The next plan; nullopt when there is nothing to do until a call or a result comes.
  std::optional<StepPlan> Next();
  // The result of the oldest plan in flight.
  void Apply(const StepResult& result);

  // What happened since the last call, in order.
  std::vector<Progress> TakeProgress() { return std::exchange(progress_, {}); }

  int agents(FamilyKey family) const;  // That live.
  int plans_in_flight() const { return static_cast<int>(in_flight_.size()); }
  EngineLoad load() const;

  // Aborts when the bookkeeping contradicts itself. Walks over everything: for tests.
  void CheckConsistent() const;

 private:
  struct Family {
    uint64_t seed = 0;
    BlockName root;
    FamilyCounters counters;
    std::set<AgentId> ids;                // Ever accepted.
    std::map<AgentId, uint64_t> serials;  // Of those that live.
  };
  struct PlanInFlight {
    uint64_t number = 0;
    std::vector<uint64_t> sampled;  // Serials of the sequences, sample by sample.
  };
  using Live = std::map<uint64_t, std::unique_ptr<Sequence>>;

  Sequence* Find(FamilyKey family, AgentId agent);
  absl::Status CheckGang(const Family& family, const std::vector<AgentSpec>& gang) const;
  absl::Status CheckRoom(const Gang& gang) const;
  void Enter(Family& family, std::unique_ptr<Sequence> sequence);
  void Report(Sequence& sequence, int first, std::vector<TokenEvent> tokens);
  void Remove(Live::iterator it);
  void TakeSample(Sequence& sequence, const TokenEvent& token);
  void Settle(Live::iterator it);

  std::vector<Sequence*> InOrder(bool running) const;
  std::vector<Sequence*> Prefilling() const;
  int Decoding() const;
  bool Returnable(const Sequence& sequence) const;
  void BringBack();
  bool MakeRoom();
  int Agents() const { return static_cast<int>(live_.size()) - copies_; }

  // scheduler_probes.cc: copies that are asked.
  void Ask(Sequence& agent);
  void Share(Sequence& copy);
  void Answer(Live::iterator it);
  void RemoveCopy(Live::iterator it);
  Sequence* SlotFor(const Sequence& sequence);
  void KeepSlots();
  void CheckCopies() const;

  const GroupShape shape_;
  const int max_rows_;
  KvCache cache_;
  SlotBook slots_;
  std::map<FamilyKey, Family> families_;
  Live live_;       // By serial. After cache_: tables unpin.
  int copies_ = 0;  // Of the living.
  std::deque<PlanInFlight> in_flight_;
  uint64_t last_plan_ = 0;
  uint64_t last_serial_ = 0;
  std::vector<Progress> progress_;
  EngineLoad load_;  // Its counters only.
};

}  // namespace conclave::worker
