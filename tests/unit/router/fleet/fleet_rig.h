#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "router/fleet/fleet.h"

namespace conclave::router {

class SilentRun : public FamilyRun {
 public:
  void Add(std::vector<AgentRecipe>) override {}
  void Cancel(std::vector<AgentId>) override {}
  void RunTo(std::vector<AgentId>, std::vector<int>) override {}
  void Finish() override {}
};

// A group that says what the test makes it say.
class SpokenClient : public WorkerClient {
 public:
  SpokenClient(GroupEvents** events, std::shared_ptr<FamilyEvents>* run)
      : events_(events), run_(run) {}
  std::unique_ptr<FamilyRun> Open(FamilyOpening, std::shared_ptr<FamilyEvents> events) override {
    *run_ = std::move(events);
    return std::make_unique<SilentRun>();
  }
  std::unique_ptr<GroupWatch> Watch(GroupEvents& events) override {
    *events_ = &events;
    return std::make_unique<GroupWatch>();
  }
  void Count(PromptQuestion, std::function<void(absl::StatusOr<int>)>) override {}
  void Render(PromptQuestion, std::function<void(absl::StatusOr<Prompt>)>) override {}

 private:
  GroupEvents** const events_;
  std::shared_ptr<FamilyEvents>* const run_;  // Of the run that was opened last.
};

// How a family ended, as its owner learns.
struct Ends : public FamilyEvents {
  void OnAccepted(std::vector<AcceptedAgent>) override {}
  void OnRefused(std::vector<AgentId>, absl::Status, int) override {}
  void OnDelta(FamilyDelta) override {}
  void OnProbe(ProbeResult) override {}
  void OnFamilyEnd(FamilyTotals) override { ended = true; }
  void OnLost(absl::Status why) override { lost = std::move(why); }

  bool ended = false;
  absl::Status lost;
};

class FleetRig : public ::testing::Test {
 protected:
  void Make(int groups) {
    events_.resize(static_cast<size_t>(groups));
    runs_.resize(static_cast<size_t>(groups));
    std::vector<FleetMember> members;
    for (int i = 0; i < groups; ++i) {
      members.push_back({.address = fmt::format("g:{}", i),
                         .client = std::make_unique<SpokenClient>(&events_[i], &runs_[i])});
    }
    fleet_ = std::make_unique<Fleet>(std::move(members), Logger(), metrics_, clock_);
  }

  void Describe(int group, const std::string& model, const std::string& last_loss = "",
                int64_t epoch = 1, const std::string& fingerprint = "") {
    GroupDescription description;
    description.model.name = model;
    description.model.fingerprint = fingerprint.empty() ? "f-" + model : fingerprint;
    description.epoch = epoch;
    description.last_loss = last_loss;
    events_[static_cast<size_t>(group)]->OnDescribed(std::move(description));
  }

  void Load(int group, int credits, bool ready = true) {
    GroupLoad load;
    load.credits = credits;
    load.ready = ready;
    events_[static_cast<size_t>(group)]->OnLoad(load);
  }

  std::unique_ptr<Fleet::Waiting> Place(int agents, std::vector<int>& places) {
    PlacementQuestion question;
    question.model = "m";
    question.agents = agents;
    return fleet_->Place(question, [&places](int group) { places.push_back(group); });
  }

  // What group "g:0", "g:1", ... is when it joins.
  Fleet::MakeClient Maker() {
    return [this](const std::string& address) {
      const auto i = static_cast<size_t>(std::stoi(address.substr(2)));
      joined_.push_back(address);
      return std::make_unique<SpokenClient>(&events_[i], &runs_[i]);
    };
  }

  FakeClock clock_;
  Metrics metrics_;
  std::vector<GroupEvents*> events_;
  std::vector<std::shared_ptr<FamilyEvents>> runs_;
  std::vector<std::string> joined_;
  std::unique_ptr<Fleet> fleet_;
};

}  // namespace conclave::router
