#pragma once

#include <memory>
#include <vector>

#include "router/contemplation/event.h"
#include "router/contemplation/plan.h"

namespace conclave::router {

// One request, decided in token time (README.md in this folder has the rules). A pure state
// machine: an event in, commands out, time as part of the event; no thread, lock, clock or network.
// One thread at a time.
//
// The first event is Started. Commands are to be obeyed in order. Exactly one terminal command
// (Succeed or Fail) is ever given, nothing after it; before it every attempt has ended or is
// closed. Events after it are ignored.
class Contemplation {
 public:
  Contemplation(Plan plan, Limits limits);
  ~Contemplation();
  Contemplation(Contemplation&&) noexcept;
  Contemplation& operator=(Contemplation&&) noexcept;

  std::vector<Command> On(const Event& event);

 private:
  class Course;
  std::unique_ptr<Course> course_;
};

}  // namespace conclave::router
