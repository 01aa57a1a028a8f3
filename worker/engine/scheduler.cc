#include "worker/engine/scheduler.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "worker/engine/plan_builder.h"

namespace conclave::worker {

Scheduler::Scheduler(const EngineOptions& options, const GroupShape& shape, int num_blocks)
    : shape_(shape),
      max_rows_(std::min(options.max_batched_tokens, shape.max_rows)),
      cache_(num_blocks),
      slots_(shape) {}

void Scheduler::Open(FamilyKey family, const FamilySpec& spec) {
  Family opened;
  opened.seed = spec.seed;
  opened.root = RootName(spec.salt, shape_);
  CHECK(families_.emplace(family, std::move(opened)).second);
}

FamilyCounters Scheduler::Close(FamilyKey family) {
  const auto found = families_.find(family);
  CHECK(found != families_.end() && found->second.serials.empty());
  const FamilyCounters counters = found->second.counters;
  families_.erase(found);
  return counters;
}

int Scheduler::agents(FamilyKey family) const {
  return static_cast<int>(families_.at(family).serials.size());
}

absl::Status Scheduler::CheckGang(const Family& family, const std::vector<AgentSpec>& gang) const {
  if (gang.empty()) return InvalidArgument("a gang without agents");
  std::set<AgentId> ids;
  for (const AgentSpec& spec : gang) {
    const auto id = static_cast<uint32_t>(spec.id);
    if (!ids.insert(spec.id).second || family.ids.contains(spec.id)) {
      return InvalidArgument("agent {:#x} is in the family already", id);
    }
    if (const absl::Status status = CheckSpec(spec, shape_); !status.ok()) {
      return Annotate(status, fmt::format("agent {:#x}", id));
    }
  }
  return absl::OkStatus();
}

Admission Scheduler::Add(FamilyKey key, std::vector<AgentSpec> specs) {
  Family& family = families_.at(key);
  if (const absl::Status status = CheckGang(family, specs); !status.ok()) return {status, 0};
  Gang gang;
  for (AgentSpec& spec : specs) {
    const SequenceOrigin origin{key,         ++last_serial_,      family.seed,
                                family.root, shape_.kinds_differ, &family.counters};
    gang.push_back(std::make_unique<Sequence>(origin, std::move(spec), cache_));
  }
  const Admission fit = CheckFit(gang, cache_.total(), shape_.max_slots);
  if (!fit.status.ok()) return fit;
  if (const absl::Status status = CheckRoom(gang); !status.ok()) return {status, 0};
  for (const auto& sequence : gang) {
    if (const absl::Status status = sequence->tokens.Feed(sequence->produced); !status.ok()) {
      const auto id = static_cast<uint32_t>(sequence->id);
      return {Annotate(status, fmt::format("agent {:#x}", id)), 0};
    }
  }
  for (auto& sequence : gang) Enter(family, std::move(sequence));
  return {absl::OkStatus(), static_cast<int>(specs.size())};
}

// Whoever is accepted can be started: there is room for the prompts and one more token, beside what
// was promised before, and a next block for each that decodes.
absl::Status Scheduler::CheckRoom(const Gang& gang) const {
  const int places = shape_.max_slots - Agents();
  if (gang.size() > static_cast<size_t>(places)) {
    return ResourceExhausted("{} agents; {} of {} places are free", gang.size(), places,
                             shape_.max_slots);
  }
  std::vector<Sequence*> starting;
  for (const auto& sequence : gang) {
    if (sequence->produced.empty()) starting.push_back(sequence.get());
  }
  // Resumed agents enter one by one, as room comes; what fits the empty pool can enter it.
  if (starting.empty() || live_.empty()) return absl::OkStatus();
  const std::vector<Sequence*> waiting = InOrder(false);
  // A copy is waited for only when its agent does: who asks much keeps nobody else out.
  const auto returning = std::count_if(waiting.begin(), waiting.end(), [this](const Sequence* s) {
    return s->can_run() && !(s->is_copy() && live_.at(s->asked)->can_run());
  });
  if (returning > 0) return ResourceExhausted("{} agents wait for room to return", returning);
  for (Sequence* sequence : Prefilling()) starting.push_back(sequence);
  const int blocks = BlocksToStart(starting, cache_) + Decoding();
  if (blocks > cache_.available()) {
    return ResourceExhausted("{} blocks of KV are needed; {} of {} can be had", blocks,
                             cache_.available(), cache_.total());
  }
  return absl::OkStatus();
}

void Scheduler::Enter(Family& family, std::unique_ptr<Sequence> entering) {
  Sequence& sequence = *entering;
  sequence.running = sequence.produced.empty();
  family.ids.insert(sequence.id);
  family.serials[sequence.id] = sequence.origin.serial;
  family.counters.prompt_shared += sequence.tokens.prompt_length();
  load_.prompt_tokens += sequence.tokens.prompt_length();
  const auto it = live_.emplace(sequence.origin.serial, std::move(entering)).first;
  const int first = sequence.tokens.count();
  std::vector<TokenEvent> forced;
  sequence.tokens.Release(forced);
  Report(sequence, first, std::move(forced));
  KeepSlots();
  Settle(it);
}

Sequence* Scheduler::Find(FamilyKey key, AgentId agent) {
  const Family& family = families_.at(key);
  const auto found = family.serials.find(agent);
  return found == family.serials.end() ? nullptr : live_.at(found->second).get();
}

void Scheduler::RunTo(FamilyKey family, AgentId agent, int count) {
  Sequence* const sequence = Find(family, agent);
  if (sequence == nullptr) return;
  const int first = sequence->tokens.count();
  std::vector<TokenEvent> forced;
  sequence->tokens.RunTo(count);
  sequence->tokens.Release(forced);
  Report(*sequence, first, std::move(forced));
  Settle(live_.find(sequence->origin.serial));
}

void Scheduler::Cancel(FamilyKey family, AgentId agent) {
  Sequence* const sequence = Find(family, agent);
  if (sequence == nullptr) return;
  sequence->tokens.Cancel();
  Report(*sequence, sequence->tokens.count(), {});
  Remove(live_.find(sequence->origin.serial));
}

void Scheduler::CancelAll(FamilyKey key) {
  const std::map<AgentId, uint64_t> living = families_.at(key).serials;
  for (const auto& [agent, serial] : living) Cancel(key, agent);
}

void Scheduler::Report(Sequence& sequence, int first, std::vector<TokenEvent> tokens) {
  load_.tokens_forced += std::count_if(tokens.begin(), tokens.end(), [](const TokenEvent& token) {
    return token.kind == TokenKind::kForced;
  });
  Progress progress{sequence.origin.family, sequence.id, first, std::move(tokens), std::nullopt};
  if (sequence.tokens.ended()) progress.end = sequence.tokens.end();
  if (progress.end.has_value() || !progress.tokens.empty()) {
    progress_.push_back(std::move(progress));
  }
}

// What its tokens lead to: its end, or a question.
void Scheduler::Settle(Live::iterator it) {
  if (!it->second->tokens.ended()) return Ask(*it->second);
  if (it->second->is_copy()) return Answer(it);
  Remove(it);
}

void Scheduler::Remove(Live::iterator it) {
  Sequence& sequence = *it->second;
  if (sequence.probe != 0) {
    ++load_.probes_dropped;
    RemoveCopy(live_.find(sequence.probe));
  }
  FamilyCounters& counters = *sequence.origin.counters;
  const AgentEnd& end = sequence.tokens.end();
  counters.sampled += end.sampled;
  counters.forced += end.forced;
  counters.fed += end.fed;
  load_.overrun += sequence.valid_in_flight();
  PlanBuilder::TakeBack(sequence, cache_, slots_, last_plan_);
  families_.at(sequence.origin.family).serials.erase(sequence.id);
  live_.erase(it);
}

std::optional<StepPlan> Scheduler::Next() {
  for (;;) {
    BringBack();
    const std::vector<Sequence*> order = InOrder(true);
    PlanBuilder builder(last_plan_ + 1, {max_rows_, shape_.max_samples, shape_.pools.size()},
                        cache_, slots_, load_, order);
    for (Sequence* sequence : order) {
      if (sequence->running && !sequence->prefilling && sequence->can_run()) builder.Run(*sequence);
    }
    for (Sequence* sequence : order) {
      if (sequence->running && sequence->prefilling && sequence->can_run()) {
        builder.Prefill(*sequence);
      }
    }
    if (!builder.empty()) {
      PlanInFlight plan{++last_plan_, {}};
      StepPlan steps = builder.Finish(plan.sampled);
      in_flight_.push_back(std::move(plan));
      ++load_.steps;
      return steps;
    }
    if (!in_flight_.empty() || !MakeRoom()) return std::nullopt;
  }
}

// Older families first; within one, those behind first. Running copies behind all: they give their
// room away first. Those that wait are in their family's turn, for its agents wait for them.
std::vector<Sequence*> Scheduler::InOrder(bool running) const {
  std::vector<Sequence*> order;
  for (const auto& [serial, sequence] : live_) {
    if (sequence->running == running) order.push_back(sequence.get());
  }
  const auto key = [](const Sequence* each) {
    return std::make_tuple(each->running && each->is_copy(), each->origin.family,
                           each->tokens.count());
  };
  std::stable_sort(order.begin(), order.end(),
                   [key](const Sequence* a, const Sequence* b) { return key(a) < key(b); });
  return order;
}

std::vector<Sequence*> Scheduler::Prefilling() const {
  std::vector<Sequence*> prefilling;
  for (const auto& [serial, sequence] : live_) {
    if (sequence->running && sequence->prefilling) prefilling.push_back(sequence.get());
  }
  return prefilling;
}

int Scheduler::Decoding() const {
  return static_cast<int>(std::count_if(live_.begin(), live_.end(), [](const auto& entry) {
    return entry.second->running && !entry.second->prefilling;
  }));
}

bool Scheduler::Returnable(const Sequence& sequence) const {
  return sequence.in_flight == 0 && sequence.can_run();
}

// In order, each as soon as there is room for all of its tokens; nobody overtakes.
void Scheduler::BringBack() {
  auto running = std::count_if(live_.begin(), live_.end(),
                               [](const auto& entry) { return entry.second->running; });
  for (Sequence* sequence : InOrder(false)) {
    if (!Returnable(*sequence)) continue;
    Sequence* const yields = running < shape_.max_slots ? nullptr : SlotFor(*sequence);
    if (running >= shape_.max_slots && yields == nullptr) return;
    std::vector<Sequence*> starting = Prefilling();
    const int decoding = Decoding();
    const bool alone = starting.empty() && decoding == 0;
    starting.push_back(sequence);
    if (!alone && BlocksToStart(starting, cache_) + decoding > cache_.available()) return;
    sequence->running = true;
    ++running;
    if (sequence->is_copy()) Share(*sequence);
    if (yields == nullptr) continue;
    PlanBuilder::TakeBack(*yields, cache_, slots_, last_plan_);
    ++load_.preemptions;
    --running;
  }
}

// Nobody that runs can move, and somebody who could does not fit: one of those that only wait gives
// its room away. False when there is no such pair.
bool Scheduler::MakeRoom() {
  const std::vector<Sequence*> waiting = InOrder(false);
  if (std::none_of(waiting.begin(), waiting.end(),
                   [this](const Sequence* sequence) { return Returnable(*sequence); })) {
    return false;
  }
  const std::vector<Sequence*> order = InOrder(true);
  CHECK(!order.empty());  // The empty pool takes everybody who was accepted.
  PlanBuilder::TakeBack(*order.back(), cache_, slots_, last_plan_);
  ++load_.preemptions;
  return true;
}

void Scheduler::Apply(const StepResult& result) {
  CHECK(!in_flight_.empty());
  const PlanInFlight plan = std::move(in_flight_.front());
  in_flight_.pop_front();
  CHECK(result.number == plan.number && result.tokens.size() == plan.sampled.size());
  for (size_t i = 0; i < plan.sampled.size(); ++i) {
    const auto found = live_.find(plan.sampled[i]);
    if (found == live_.end()) continue;  // Counted as overrun when it ended.
    Sequence& sequence = *found->second;
    --sequence.in_flight;
    if (sequence.overtaken > 0) {
      --sequence.overtaken;
      continue;
    }
    TakeSample(sequence, result.tokens[i]);
    Settle(found);
  }
}

void Scheduler::TakeSample(Sequence& sequence, const TokenEvent& token) {
  const int first = sequence.tokens.count();
  std::vector<TokenEvent> added;
  sequence.tokens.TakeSampled(token, added);
  // A token that was drawn already, in the belief that it comes next, does not.
  const bool forced = added.size() > 1 || sequence.tokens.forced_wait();
  if (forced && sequence.valid_in_flight() > 0) {
    load_.overrun += sequence.valid_in_flight();
    sequence.overtaken = sequence.in_flight;
    sequence.truncate = true;
  }
  if (sequence.is_copy()) {
    sequence.told.insert(sequence.told.end(), added.begin(), added.end());
    return;
  }
  ++load_.tokens_sampled;
  Report(sequence, first, std::move(added));
}

EngineLoad Scheduler::load() const {
  EngineLoad load = load_;
  load.agents_running = Agents();
  load.agents_max = shape_.max_slots;
  for (const auto& [serial, sequence] : live_) {
    if (sequence->is_copy()) continue;
    const int missing = sequence->tokens.prompt_length() - sequence->computed;
    if (sequence->prefilling) load.queued_prompt_tokens += std::max(0, missing);
    if (sequence->table.size() == 0) ++load.agents_waiting;
  }
  load.blocks_free = cache_.available();
  load.blocks_total = cache_.total();
  load.evictions = cache_.evictions();
  return load;
}

void Scheduler::CheckConsistent() const {
  std::vector<int> pins(cache_.total(), 0);
  std::map<uint64_t, int> samples;  // In flight, by serial.
  for (const PlanInFlight& plan : in_flight_) {
    for (const uint64_t serial : plan.sampled) ++samples[serial];
  }
  std::set<SlotId> slots;
  size_t agents = 0;
  for (const auto& [key, family] : families_) agents += family.serials.size();
  CHECK(static_cast<int>(agents) == Agents() && Agents() <= shape_.max_slots);
  CheckCopies();
  for (const auto& [serial, sequence] : live_) {
    CHECK(!sequence->tokens.ended());
    CHECK(sequence->slot < 0 || slots.insert(sequence->slot).second);
    const int ahead = sequence->valid_in_flight();
    CHECK(sequence->in_flight == samples[serial] && ahead >= 0 && ahead <= 2);
    CHECK(sequence->computed <= sequence->tokens.size() + std::max(0, ahead - 1));
    CHECK(sequence->blocks_sent <= sequence->table.size());
    CHECK(sequence->table.size() >= BlocksFor(sequence->computed));
    CHECK(sequence->published <= sequence->table.size());
    CHECK(sequence->running ||
          (sequence->slot < 0 && sequence->table.size() == 0 && !sequence->copy.has_value()));
    for (int i = 0; i < sequence->table.size(); ++i) ++pins[sequence->table[i]];
    if (sequence->copy.has_value()) ++pins[sequence->copy->source.block()];
  }
  CHECK(slots_.free() + static_cast<int>(slots.size()) == shape_.max_slots);
  cache_.CheckConsistent(pins);
  if (live_.empty()) CHECK(cache_.available() == cache_.total());
}

}  // namespace conclave::worker
