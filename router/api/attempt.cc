#include "router/api/attempt.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "common/status_details.h"

namespace conclave::router {

// One place's stream: its events are the attempt's.
class Attempt::Stream : public FamilyEvents {
 public:
  Stream(Post post, Fleet& fleet, int attempt, int place, int group)
      : post_(std::move(post)), fleet_(fleet), attempt_(attempt), place_(place), group_(group) {}

  void OnAccepted(std::vector<AcceptedAgent> gang) override {
    post_(What(Accepted{.attempt = attempt_, .agents = std::move(gang), .place = place_}));
  }
  void OnRefused(std::vector<AgentId> gang, absl::Status why, int width) override {
    post_(What(Refused{.attempt = attempt_,
                       .agents = std::move(gang),
                       .why = std::move(why),
                       .width = width,
                       .place = place_}));
  }
  void OnDelta(FamilyDelta delta) override {
    post_(What(Delta{.attempt = attempt_, .delta = std::move(delta), .place = place_}));
  }
  void OnProbe(ProbeResult probe) override {
    post_(What(Probed{.attempt = attempt_, .result = std::move(probe), .place = place_}));
  }
  void OnFamilyEnd(FamilyTotals totals) override {
    post_(News(PlaceEnded{.attempt = attempt_, .place = place_, .totals = totals}));
  }
  void OnLost(absl::Status why) override {
    const absl::Status told =
        WithDetails(MakeStatus(why.code(), fleet_.LossWords(group_, why)), DetailsOf(why));
    post_(News(PlaceLost{.attempt = attempt_, .place = place_, .why = told}));
  }

 private:
  const Post post_;
  Fleet& fleet_;
  const int attempt_, place_, group_;
};

Attempt::Attempt(const Parts& parts, OpenRun open, const PlacementQuestion& question,
                 bool wants_load, Post post)
    : parts_(parts),
      open_(std::move(open)),
      question_(question),
      wants_load_(wants_load),
      post_(std::move(post)) {
  CHECK(!open_.places.empty());
  Seek();
  timer_ = parts_.timers.At(
      parts_.clock.Now() + parts_.patience,
      [post = post_, attempt = number()] { post(News(GivenUp{.attempt = attempt})); });
}

Attempt::~Attempt() { parts_.timers.Cancel(timer_); }

// Asks for the next place. Those that were found keep what was taken off their credits, until their
// groups report anew.
void Attempt::Seek() {
  const PlaceWanted& wanted = open_.places[groups_.size()];
  question_.model = wanted.model;
  question_.fingerprint = wanted.fingerprint;
  question_.agents = wanted.agents;
  question_.least = wanted.least;
  waiting_ = parts_.fleet.Place(question_, [post = post_, attempt = number()](int group) {
    post(News(GroupFound{.attempt = attempt, .group = group}));
  });
}

std::optional<Attempt::What> Attempt::Hear(const News& news) {
  const int attempt = std::visit([](const auto& each) { return each.attempt; }, news);
  if (attempt != number()) return std::nullopt;
  return std::visit([this](const auto& each) { return Visit(each); }, news);
}

// The agents asked for were taken off the group's credits, and are its family's to use.
std::optional<Attempt::What> Attempt::Visit(const GroupFound& found) {
  waiting_.reset();
  const PlaceWanted& wanted = open_.places[groups_.size()];
  const GroupView view = parts_.fleet.View(found.group);
  groups_.push_back(found.group);
  rooms_.push_back({.credits = wanted.agents + view.load.credits,
                    .running = view.load.agents_running - wanted.agents,
                    .places = view.description ? view.description->model.max_agents : 0,
                    .share = wanted.share,
                    .shares = wanted.shares});
  if (groups_.size() == open_.places.size()) {
    const bool ready = std::all_of(groups_.begin(), std::prev(groups_.end()),
                                   [this](int group) { return parts_.fleet.View(group).ready(); });
    if (ready) return OpenAll();
    groups_.clear();  // While the others were waited for, one went away.
    rooms_.clear();
  }
  Seek();
  return std::nullopt;
}

std::optional<Attempt::What> Attempt::Visit(const GivenUp&) {
  if (!runs_.empty()) return std::nullopt;
  waiting_.reset();
  return PlacementFailed{.attempt = number(), .why = parts_.fleet.WhyNot(question_)};
}

// The load is that of all groups together.
std::optional<Attempt::What> Attempt::Visit(const LoadSeen& seen) {
  if (runs_.empty()) return std::nullopt;
  GroupRoom& room = rooms_[static_cast<size_t>(seen.place)];
  room.credits = seen.load.credits;
  room.running = seen.load.agents_running;
  const GroupRoom joint = JointRoom(rooms_);
  return CreditsChanged{.attempt = number(),
                        .credits = joint.credits,
                        .running = joint.running,
                        .places = joint.places};
}

// One that ends before it is told to is as good as lost: so is the family.
std::optional<Attempt::What> Attempt::Visit(const PlaceEnded& ended) {
  totals_.prompt_computed += ended.totals.prompt_computed;
  totals_.prompt_shared += ended.totals.prompt_shared;
  totals_.sampled += ended.totals.sampled;
  totals_.forced += ended.totals.forced;
  totals_.fed += ended.totals.fed;
  totals_.recomputed += ended.totals.recomputed;
  totals_.probed += ended.totals.probed;
  if (!finished_[static_cast<size_t>(ended.place)])
    return FamilyEnded{.attempt = number(), .totals = totals_};
  return EndIfOver();
}

// What a place was lost with that nobody needs any more, its bill, matters in the end.
std::optional<Attempt::What> Attempt::Visit(const PlaceLost& lost) {
  if (runs_.empty() || !finished_[static_cast<size_t>(lost.place)])
    return Lost{.attempt = number(), .why = lost.why, .place = lost.place};
  lost_ = lost.why;
  return EndIfOver();
}

std::optional<Attempt::What> Attempt::EndIfOver() {
  if (++ended_ < static_cast<int>(runs_.size())) return std::nullopt;
  if (lost_) return Lost{.attempt = number(), .why = *lost_};
  return FamilyEnded{.attempt = number(), .totals = totals_};
}

Attempt::What Attempt::OpenAll() {
  parts_.timers.Cancel(timer_);
  Placed placed;
  placed.attempt = number();
  for (size_t i = 0; i < groups_.size(); ++i) {
    const GroupView view = parts_.fleet.View(groups_[i]);
    const std::string fingerprint = view.description ? view.description->model.fingerprint : "";
    i == 0 ? placed.fingerprint = fingerprint : placed.beside.emplace_back(fingerprint);
    placed.words += (i == 0 ? "" : ", ") + parts_.fleet.ReturnWords(groups_[i]);
  }
  finished_.assign(groups_.size(), false);
  for (size_t i = 0; i < groups_.size(); ++i) Open(i);
  const GroupRoom joint = JointRoom(rooms_);
  placed.credits = joint.credits;
  placed.running = joint.running;
  placed.places = joint.places;
  return placed;
}

void Attempt::Open(size_t place) {
  FamilyOpening opening = open_.opening;
  opening.fingerprint = open_.places[place].fingerprint;
  auto events = std::make_shared<Stream>(post_, parts_.fleet, number(), static_cast<int>(place),
                                         groups_[place]);
  Fleet::LoadListener on_load;
  if (wants_load_) {
    on_load = [post = post_, attempt = number(), place](const GroupLoad& load) {
      post(News(LoadSeen{.attempt = attempt, .place = static_cast<int>(place), .load = load}));
    };
  }
  runs_.push_back(
      parts_.fleet.Open(groups_[place], std::move(opening), std::move(events), std::move(on_load)));
}

// Null: the group was forgotten, and the stream has said that it is lost.
FamilyRun* Attempt::RunOf(int place) const { return runs_.at(static_cast<size_t>(place)).get(); }

void Attempt::Add(AddGang command) {
  if (FamilyRun* run = RunOf(command.place)) run->Add(std::move(command.agents));
}

void Attempt::Cancel(CancelAgents command) {
  if (FamilyRun* run = RunOf(command.place)) run->Cancel(std::move(command.agents));
}

void Attempt::RunTo(RaiseRunTo command) {
  if (FamilyRun* run = RunOf(command.place))
    run->RunTo(std::move(command.agents), std::move(command.counts));
}

void Attempt::Finish(int place) {
  finished_.at(static_cast<size_t>(place)) = true;
  if (FamilyRun* run = RunOf(place)) run->Finish();
}

}  // namespace conclave::router
