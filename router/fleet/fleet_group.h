#pragma once

#include <cstdint>
#include <map>
#include <memory>

#include "router/fleet/fleet.h"

// Of the fleet's own making: nobody else includes it.
namespace conclave::router {

// One group and what it said last. Its events arrive one at a time.
struct Fleet::Group : public GroupEvents {
  Group(FleetMember from, Fleet& owner, int number);
  ~Group() override;  // Its series leave the page.

  void OnDescribed(GroupDescription description) override;
  void OnLoad(GroupLoad load) override;
  void OnGone(absl::Status why) override;
  // It is watched no more. Not from an event.
  void Forget();

  FleetMember member;
  Fleet& fleet;
  const Logger logger;
  Metrics& metrics;  // Of its own: events that are still held may outlive the fleet.
  const MetricLabels labels;
  Gauge ready, credits;
  Counter losses, rests;
  // Guarded by the fleet's mutex.
  GroupView view;
  int families = 0;                           // Runs that are open.
  std::map<int64_t, LoadListener> listeners;  // Of those that asked.
  int64_t last_listener = 0;
  int losses_in_row = 0;  // Without a family that ended well between them.

  std::unique_ptr<GroupWatch> watch;  // Last: its events use the others.
};

}  // namespace conclave::router
