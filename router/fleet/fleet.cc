#include "router/fleet/fleet.h"

#include <algorithm>
#include <utility>

#include "common/status.h"
#include "common/status_details.h"

namespace conclave::router {
namespace {

constexpr absl::Duration kRetryAfterGone = absl::Seconds(2);
constexpr absl::Duration kRetryAfterFull = absl::Seconds(1);

}  // namespace

// One group and what it said last. Its events arrive one at a time.
struct Fleet::Group : public GroupEvents {
  Group(FleetMember from, Fleet& owner, Metrics& metrics)
      : member(std::move(from)),
        fleet(owner),
        logger(owner.logger_.With({{"group", member.address}})),
        ready(metrics.AddGauge("conclave_group_ready", "1 when the group takes families",
                               {{"group", member.address}})),
        credits(metrics.AddGauge("conclave_group_credits", "Agents that the group would take now",
                                 {{"group", member.address}})),
        losses(metrics.AddCounter("conclave_group_losses_total", "Families that lost the group",
                                  {{"group", member.address}})) {
    view.address = member.address;
    view.trouble = "not reached yet";
  }

  void OnDescribed(GroupDescription description) override {
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
    fleet.Changed();
  }

  void OnLoad(GroupLoad load) override {
    ready.Set(load.ready ? 1 : 0);
    credits.Set(load.credits);
    {
      absl::MutexLock lock(&fleet.mutex_);
      view.load = load;
    }
    fleet.Changed();
  }

  void OnGone(absl::Status why) override {
    ready.Set(0);
    credits.Set(0);
    absl::MutexLock lock(&fleet.mutex_);
    if (view.reachable) logger.Warning("group gone", {{"status", why}});
    view.reachable = false;
    view.trouble = std::string(MessageOf(why));
  }

  FleetMember member;
  Fleet& fleet;
  const Logger logger;
  Gauge ready, credits;
  Counter losses;
  GroupView view;                     // Guarded by the fleet's mutex.
  std::unique_ptr<GroupWatch> watch;  // Last: its events use the others.
};

// A family that waits for a place. Guarded by the fleet's mutex, but for the call itself.
struct Fleet::Waiter {
  PlacementQuestion question;
  std::function<void(int)> placed;
  int group = -1;
  bool calling = false;
};

Fleet::Fleet(std::vector<FleetMember> members, Logger logger, Metrics& metrics)
    : logger_(std::move(logger)),
      waiting_(metrics.AddGauge("conclave_families_waiting", "Families that wait for a group")) {
  for (FleetMember& member : members) {
    groups_.push_back(std::make_unique<Group>(std::move(member), *this, metrics));
  }
  for (const auto& group : groups_) group->watch = group->member.client->Watch(*group);
}

Fleet::~Fleet() {
  for (const auto& group : groups_) group->watch.reset();
}

WorkerClient& Fleet::client(int group) {
  return *groups_[static_cast<size_t>(group)]->member.client;
}

const std::string& Fleet::address(int group) const {
  return groups_[static_cast<size_t>(group)]->member.address;
}

std::vector<GroupView> Fleet::View() const {
  absl::MutexLock lock(&mutex_);
  std::vector<GroupView> views;
  views.reserve(groups_.size());
  for (const auto& group : groups_) views.push_back(group->view);
  return views;
}

absl::StatusOr<ModelDescription> Fleet::FindModel(const std::string& name,
                                                  const std::string& fingerprint) const {
  const ModelDescription* found = nullptr;
  bool named = false;
  const std::vector<GroupView> views = View();
  std::string troubles;
  for (const GroupView& view : views) {
    if (view.description == nullptr) {
      troubles += fmt::format("{}{}: {}", troubles.empty() ? "" : "; ", view.address, view.trouble);
      continue;
    }
    const ModelDescription& model = view.description->model;
    if (!name.empty() && model.name != name) continue;
    named = true;
    if (!fingerprint.empty() && model.fingerprint != fingerprint) continue;
    if (found != nullptr && found->name != model.name) {
      return InvalidArgument("model is empty, and both {} and {} are served", found->name,
                             model.name);
    }
    // A group that is there speaks for the model rather than one that is gone.
    if (found == nullptr || view.ready()) found = &model;
  }
  if (found != nullptr) return *found;
  if (named && troubles.empty()) {
    return Aborted("the replay differs: no group has fingerprint {:.12}", fingerprint);
  }
  if (troubles.empty() && !views.empty()) return NotFound("model \"{}\" is not served", name);
  return WithRetryAfter(Unavailable("no worker group serves it yet ({})", troubles),
                        kRetryAfterGone);
}

std::unique_ptr<Fleet::Waiting> Fleet::Place(PlacementQuestion question,
                                             std::function<void(int group)> placed) {
  auto waiter = std::make_shared<Waiter>(Waiter{std::move(question), std::move(placed)});
  auto waiting = std::unique_ptr<Waiting>(new Waiting(*this, waiter));
  {
    absl::MutexLock lock(&mutex_);
    waiters_.push_back(std::move(waiter));
    waiting_.Set(static_cast<double>(waiters_.size()));
  }
  Changed();
  return waiting;
}

// Takes the first waiter that finds a place out of the queue; null: none does.
std::shared_ptr<Fleet::Waiter> Fleet::NextPlaced() {
  absl::MutexLock lock(&mutex_);
  if (waiters_.empty()) return nullptr;
  std::vector<GroupView> views;
  for (const auto& group : groups_) views.push_back(group->view);
  for (auto at = waiters_.begin(); at != waiters_.end(); ++at) {
    const auto group = router::Place(views, (*at)->question);
    if (!group) continue;
    std::shared_ptr<Waiter> waiter = *at;
    waiters_.erase(at);
    waiting_.Set(static_cast<double>(waiters_.size()));
    waiter->group = *group;
    waiter->calling = true;
    groups_[static_cast<size_t>(*group)]->view.load.credits -= std::max(1, waiter->question.agents);
    return waiter;
  }
  return nullptr;
}

void Fleet::Changed() {
  while (const std::shared_ptr<Waiter> waiter = NextPlaced()) {
    waiter->placed(waiter->group);
    absl::MutexLock lock(&mutex_);
    waiter->calling = false;
  }
}

Fleet::Waiting::~Waiting() {
  absl::MutexLock lock(&fleet_.mutex_);
  fleet_.waiters_.remove(waiter_);
  fleet_.waiting_.Set(static_cast<double>(fleet_.waiters_.size()));
  const auto quiet = [](Waiter* waiter) { return !waiter->calling; };
  fleet_.mutex_.Await(absl::Condition(+quiet, waiter_.get()));
}

absl::Status Fleet::WhyNot(const PlacementQuestion& question) const {
  std::string troubles;
  bool full = false;
  for (const GroupView& view : View()) {
    std::string trouble;
    if (view.description != nullptr && view.description->model.name != question.model) continue;
    if (!view.reachable) {
      trouble = view.trouble;
    } else if (!view.load.ready) {
      trouble = "not ready";
    } else if (!question.fingerprint.empty() &&
               view.description->model.fingerprint != question.fingerprint) {
      trouble = "has another fingerprint";
    } else {
      trouble = fmt::format("has room for {} agents of {}", view.load.credits, question.agents);
      full = true;
    }
    troubles += fmt::format("{}group {}: {}", troubles.empty() ? "" : "; ", view.address, trouble);
  }
  if (full) return WithRetryAfter(ResourceExhausted("no room now ({})", troubles), kRetryAfterFull);
  return WithRetryAfter(Unavailable("no group serves {} now ({})", question.model, troubles),
                        kRetryAfterGone);
}

std::string Fleet::LossWords(int group, const absl::Status& why) {
  if (absl::IsResourceExhausted(why)) {
    return fmt::format("group {} has no room: {}", address(group), MessageOf(why));
  }
  groups_[static_cast<size_t>(group)]->losses.Add();
  return fmt::format("group {} was lost: {}", address(group), MessageOf(why));
}

std::string Fleet::ReturnWords(int group) const {
  std::shared_ptr<const GroupDescription> description;
  {
    absl::MutexLock lock(&mutex_);
    description = groups_[static_cast<size_t>(group)]->view.description;
  }
  if (description == nullptr || description->last_loss.empty()) {
    return fmt::format("group {} serves", address(group));
  }
  return fmt::format("group {} serves as epoch {} (it was lost before: {})", address(group),
                     description->epoch, description->last_loss);
}

}  // namespace conclave::router
