#include "router/fleet/fleet.h"

#include <algorithm>
#include <set>
#include <utility>

#include "common/status.h"
#include "common/status_details.h"
#include "router/fleet/fleet_group.h"

namespace conclave::router {
namespace {

constexpr absl::Duration kRetryAfterGone = absl::Seconds(2);
constexpr absl::Duration kRetryAfterFull = absl::Seconds(1);

// Whether a family that ended so says something about its group, and not about its request.
bool MayBeTheGroupsFault(const absl::Status& why) {
  switch (why.code()) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kDataLoss:
      return true;
    default:
      return false;
  }
}

}  // namespace

// A family that waits for a place. Guarded by the fleet's mutex, but for the call itself.
struct Fleet::Waiter {
  PlacementQuestion question;
  std::function<void(int)> placed;
  int group = -1;
  bool calling = false;
};

Fleet::Fleet(std::vector<FleetMember> members, Logger logger, Metrics& metrics, Clock& clock,
             LossBackoff backoff)
    : logger_(std::move(logger)),
      metrics_(metrics),
      clock_(clock),
      backoff_(backoff),
      waiting_(metrics.AddGauge("conclave_families_waiting")),
      members_(metrics.AddGauge("conclave_groups")),
      leaving_(metrics.AddGauge("conclave_groups_leaving")) {
  for (FleetMember& member : members) Add(std::move(member));
}

Fleet::~Fleet() {
  std::map<int, std::shared_ptr<Group>> groups;
  {
    absl::MutexLock lock(&mutex_);
    groups = groups_;
  }
  for (const auto& [number, group] : groups) group->watch.reset();
}

void Fleet::Add(FleetMember member) {
  std::shared_ptr<Group> group;
  {
    absl::MutexLock lock(&mutex_);
    group = std::make_shared<Group>(std::move(member), *this, ++last_number_);
    groups_[last_number_] = group;
    ListViews();
  }
  group->watch = group->member.client->Watch(*group);
}

void Fleet::ListViews() {
  views_.clear();
  int leaving = 0;
  for (const auto& [number, group] : groups_) {
    views_.push_back(&group->view);
    leaving += group->view.leaving ? 1 : 0;
  }
  members_.Set(static_cast<double>(views_.size()) - leaving);
  leaving_.Set(leaving);
}

void Fleet::SetMembers(const std::vector<std::string>& addresses, const MakeClient& make) {
  std::set<std::string> wanted(addresses.begin(), addresses.end());
  std::vector<std::shared_ptr<Group>> forgotten;
  {
    absl::MutexLock lock(&mutex_);
    for (auto at = groups_.begin(); at != groups_.end();) {
      Group& group = *at->second;
      const bool leaves = wanted.erase(group.view.address) == 0;
      if (leaves != group.view.leaving) {
        group.logger.Info(leaves ? "group left" : "group is a member again",
                          {{"families", group.families}});
      }
      group.view.leaving = leaves;
      if (!leaves || group.families > 0) {
        ++at;
        continue;
      }
      forgotten.push_back(at->second);
      at = groups_.erase(at);
    }
    ListViews();
  }
  for (const auto& group : forgotten) group->Forget();
  for (const std::string& address : wanted) {
    logger_.Info("group joined", {{"group", address}});
    Add({.address = address, .client = make(address)});
  }
  Changed(nullptr);
}

std::shared_ptr<Fleet::Group> Fleet::Find(int group) const {
  absl::MutexLock lock(&mutex_);
  const auto found = groups_.find(group);
  return found == groups_.end() ? nullptr : found->second;
}

std::vector<GroupView> Fleet::View() const {
  absl::MutexLock lock(&mutex_);
  std::vector<GroupView> views;
  views.reserve(views_.size());
  for (const GroupView* view : views_) views.push_back(*view);
  return views;
}

GroupView Fleet::View(int group) const {
  absl::MutexLock lock(&mutex_);
  const auto found = groups_.find(group);
  if (found != groups_.end()) return found->second->view;
  GroupView forgotten;
  forgotten.number = group;
  forgotten.address = fmt::format("number {}", group);
  forgotten.trouble = "it is no longer a member";
  return forgotten;
}

absl::StatusOr<ModelDescription> Fleet::FindModel(const std::string& name,
                                                  const std::string& fingerprint) const {
  struct Found {
    const ModelDescription* model = nullptr;
    int ready = 0;
  };
  std::map<std::string, Found> by_fingerprint;
  const ModelDescription* first = nullptr;
  bool named = false;
  const std::vector<GroupView> views = View();
  std::string troubles = views.empty() ? "none is known" : "";
  for (const GroupView& view : views) {
    if (view.description == nullptr) {
      troubles += fmt::format("{}{}: {}", troubles.empty() ? "" : "; ", view.address, view.trouble);
      continue;
    }
    const ModelDescription& model = view.description->model;
    if (!name.empty() && model.name != name) continue;
    named = true;
    if (!fingerprint.empty() && model.fingerprint != fingerprint) continue;
    if (first == nullptr) first = &model;
    if (first->name != model.name) {
      return InvalidArgument("model is empty, and both {} and {} are served", first->name,
                             model.name);
    }
    Found& found = by_fingerprint[model.fingerprint];
    found.model = &model;
    found.ready += view.ready() ? 1 : 0;
  }
  if (first != nullptr) {
    const auto fewer = [](const auto& a, const auto& b) { return a.second.ready < b.second.ready; };
    return *std::max_element(by_fingerprint.begin(), by_fingerprint.end(), fewer)->second.model;
  }
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
  bool found = false;
  {
    absl::MutexLock lock(&mutex_);
    found = FindPlace(*waiter);  // Those that wait already found none.
    if (!found) waiters_.push_back(waiter);
    waiting_.Set(static_cast<double>(waiters_.size()));
  }
  if (found) Call(*waiter);
  return waiting;
}

bool Fleet::FindPlace(Waiter& waiter) {
  const auto index = router::Place(views_, waiter.question, clock_.Now());
  if (!index) return false;
  Group& group = *groups_.at(views_[static_cast<size_t>(*index)]->number);
  const int agents = std::max(1, waiter.question.agents);
  // What was sent counts until the group reports.
  group.view.load.credits -= agents;
  group.view.load.agents_running += agents;
  group.view.load.queued_prompt_tokens += waiter.question.prompt_tokens;
  waiter.group = group.view.number;
  waiter.calling = true;
  return true;
}

void Fleet::Call(Waiter& waiter) {
  waiter.placed(waiter.group);
  absl::MutexLock lock(&mutex_);
  waiter.calling = false;
}

// Takes the first waiter that finds a place out of the queue, now that `group` (null: any) changed;
// null: none does.
std::shared_ptr<Fleet::Waiter> Fleet::NextPlaced(const Group* group) {
  absl::MutexLock lock(&mutex_);
  for (auto at = waiters_.begin(); at != waiters_.end(); ++at) {
    if (group != nullptr && !CouldTake(group->view, (*at)->question)) continue;
    if (!FindPlace(**at)) continue;
    std::shared_ptr<Waiter> waiter = *at;
    waiters_.erase(at);
    waiting_.Set(static_cast<double>(waiters_.size()));
    return waiter;
  }
  return nullptr;
}

void Fleet::Changed(const Group* group) {
  while (const std::shared_ptr<Waiter> waiter = NextPlaced(group)) Call(*waiter);
}

void Fleet::EndedWell(Group& group) {
  absl::MutexLock lock(&mutex_);
  group.losses_in_row = 0;
  group.view.rests_until = absl::InfinitePast();
}

void Fleet::Rest(Group& group) {
  absl::MutexLock lock(&mutex_);
  const absl::Time now = clock_.Now();
  absl::Time& until = group.view.rests_until;
  if (now < until) return;
  if (now - until > backoff_.most) group.losses_in_row = 0;
  constexpr int kMostDoublings = 20;
  const int doublings = std::min(group.losses_in_row++, kMostDoublings);
  const absl::Duration rest = std::min(backoff_.least * (1 << doublings), backoff_.most);
  until = now + rest;
  group.rests.Add();
  group.logger.Warning("group rests", {{"losses", group.losses_in_row}, {"rest", rest}});
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
    if (view.leaving) continue;
    if (!view.reachable) {
      trouble = view.trouble;
    } else if (!view.load.ready) {
      trouble = "not ready";
    } else if (!question.fingerprint.empty() &&
               view.description->model.fingerprint != question.fingerprint) {
      trouble = "has another fingerprint";
    } else {
      trouble = fmt::format("has room for {} agents of {}", std::max(0, view.load.credits),
                            question.agents);
      full = true;
    }
    troubles += fmt::format("{}group {}: {}", troubles.empty() ? "" : "; ", view.address, trouble);
  }
  if (full) return WithRetryAfter(ResourceExhausted("no room now ({})", troubles), kRetryAfterFull);
  return WithRetryAfter(Unavailable("no group serves {} now ({})", question.model, troubles),
                        kRetryAfterGone);
}

std::string Fleet::LossWords(int group, const absl::Status& why) {
  const std::string address = View(group).address;
  if (absl::IsResourceExhausted(why)) {
    return fmt::format("group {} has no room: {}", address, MessageOf(why));
  }
  if (const std::shared_ptr<Group> found = Find(group)) {
    found->losses.Add();
    if (MayBeTheGroupsFault(why)) Rest(*found);
  }
  return fmt::format("group {} was lost: {}", address, MessageOf(why));
}

std::string Fleet::ReturnWords(int group) const {
  const GroupView view = View(group);
  if (view.description == nullptr || view.description->last_loss.empty()) {
    return fmt::format("group {} serves", view.address);
  }
  return fmt::format("group {} serves as epoch {} (it was lost before: {})", view.address,
                     view.description->epoch, view.description->last_loss);
}

}  // namespace conclave::router
