#include "router/fleet/fleet_group.h"

#include <utility>
#include <vector>

#include "common/status.h"

namespace conclave::router {

Fleet::Group::Group(FleetMember from, Fleet& owner, int number)
    : member(std::move(from)),
      fleet(owner),
      logger(owner.logger_.With({{"group", member.address}})),
      metrics(owner.metrics_),
      labels({{"group", member.address}}),
      ready(metrics.AddGauge("conclave_group_ready", labels)),
      credits(metrics.AddGauge("conclave_group_credits", labels)),
      losses(metrics.AddCounter("conclave_group_losses_total", labels)),
      rests(metrics.AddCounter("conclave_group_rests_total", labels)) {
  view.number = number;
  view.address = member.address;
  view.address_hash = HashOfAddress(member.address);
  view.trouble = "not reached yet";
}

Fleet::Group::~Group() {
  watch.reset();
  for (const Gauge gauge : {ready, credits}) metrics.Remove(gauge);
  for (const Counter counter : {losses, rests}) metrics.Remove(counter);
}

void Fleet::Group::OnDescribed(GroupDescription description) {
  logger.Info("group described", {{"model", description.model.name},
                                  {"fingerprint", description.model.fingerprint},
                                  {"epoch", description.epoch},
                                  {"last_loss", description.last_loss}});
  {
    absl::MutexLock lock(&fleet.mutex_);
    view.description = std::make_shared<const GroupDescription>(std::move(description));
    view.reachable = true;
    view.load = {};
    view.trouble.clear();
  }
  fleet.Changed(this);
}

void Fleet::Group::OnLoad(GroupLoad load) {
  ready.Set(load.ready ? 1 : 0);
  credits.Set(load.credits);
  std::vector<LoadListener> calls;
  {
    absl::MutexLock lock(&fleet.mutex_);
    const bool news =
        load.credits != view.load.credits || load.agents_running != view.load.agents_running;
    view.load = load;
    for (const auto& [number, listener] : listeners) {
      if (news) calls.push_back(listener);
    }
  }
  for (const LoadListener& call : calls) call(load);
  fleet.Changed(this);
}

void Fleet::Group::OnGone(absl::Status why) {
  ready.Set(0);
  credits.Set(0);
  {
    absl::MutexLock lock(&fleet.mutex_);
    if (view.reachable) logger.Warning("group gone", {{"status", why}});
    view.reachable = false;
    view.trouble = std::string(MessageOf(why));
  }
  fleet.Changed(nullptr);  // Those that rest may be the only ones left.
}

void Fleet::Group::Forget() { watch.reset(); }

// Tells the fleet how a family ended.
class Fleet::SeatedEvents : public FamilyEvents {
 public:
  SeatedEvents(std::shared_ptr<Group> group, std::shared_ptr<FamilyEvents> events)
      : group_(std::move(group)), events_(std::move(events)) {}

  void OnAccepted(std::vector<AcceptedAgent> gang) override {
    events_->OnAccepted(std::move(gang));
  }
  void OnRefused(std::vector<AgentId> gang, absl::Status why, int width) override {
    events_->OnRefused(std::move(gang), std::move(why), width);
  }
  void OnDelta(FamilyDelta delta) override { events_->OnDelta(std::move(delta)); }
  void OnProbe(ProbeResult probe) override { events_->OnProbe(std::move(probe)); }
  void OnFamilyEnd(FamilyTotals totals) override {
    group_->fleet.EndedWell(*group_);
    events_->OnFamilyEnd(totals);
  }
  void OnLost(absl::Status why) override { events_->OnLost(std::move(why)); }

 private:
  const std::shared_ptr<Group> group_;          // Shared with the fleet.
  const std::shared_ptr<FamilyEvents> events_;  // Shared with the caller.
};

// Keeps its group from being forgotten.
class Fleet::SeatedRun : public FamilyRun {
 public:
  // `listener`: its number among the group's; 0: it is none.
  SeatedRun(std::shared_ptr<Group> group, std::unique_ptr<FamilyRun> run, int64_t listener)
      : group_(std::move(group)), run_(std::move(run)), listener_(listener) {}
  ~SeatedRun() override {
    run_.reset();
    absl::MutexLock lock(&group_->fleet.mutex_);
    --group_->families;
    group_->listeners.erase(listener_);
  }
  void Add(std::vector<AgentRecipe> gang) override { run_->Add(std::move(gang)); }
  void Cancel(std::vector<AgentId> agents) override { run_->Cancel(std::move(agents)); }
  void RunTo(std::vector<AgentId> agents, std::vector<int> counts) override {
    run_->RunTo(std::move(agents), std::move(counts));
  }
  void Finish() override { run_->Finish(); }

 private:
  const std::shared_ptr<Group> group_;  // Shared with the fleet.
  std::unique_ptr<FamilyRun> run_;
  const int64_t listener_;
};

std::unique_ptr<FamilyRun> Fleet::Open(int group, FamilyOpening opening,
                                       std::shared_ptr<FamilyEvents> events, LoadListener on_load) {
  std::shared_ptr<Group> found;
  int64_t listener = 0;
  {
    absl::MutexLock lock(&mutex_);
    const auto at = groups_.find(group);
    if (at != groups_.end()) {
      found = at->second;
      ++found->families;
      if (on_load) listener = ++found->last_listener;
      if (on_load) found->listeners[listener] = std::move(on_load);
    }
  }
  if (found == nullptr) {
    events->OnLost(Unavailable("it is no longer a member"));
    return nullptr;
  }
  auto run = found->member.client->Open(std::move(opening),
                                        std::make_shared<SeatedEvents>(found, std::move(events)));
  return std::make_unique<SeatedRun>(std::move(found), std::move(run), listener);
}

void Fleet::Count(int group, PromptQuestion question,
                  std::function<void(absl::StatusOr<int>)> done) {
  const std::shared_ptr<Group> found = Find(group);
  if (found == nullptr) return done(Unavailable("group {} is no longer a member", group));
  found->member.client->Count(std::move(question), std::move(done));
}

void Fleet::Render(int group, PromptQuestion question,
                   std::function<void(absl::StatusOr<Prompt>)> done) {
  const std::shared_ptr<Group> found = Find(group);
  if (found == nullptr) return done(Unavailable("group {} is no longer a member", group));
  found->member.client->Render(std::move(question), std::move(done));
}

}  // namespace conclave::router
