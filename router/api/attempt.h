#pragma once

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <functional>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "common/timer_thread.h"
#include "router/contemplation/event.h"
#include "router/contemplation/width.h"
#include "router/fleet/fleet.h"

namespace conclave::router {

// One attempt of a family: finds its places, one after another, opens a stream on each when all are
// found, and says of them what Contemplation is told of one. Moved by one task; what comes from
// other threads goes through `post` and comes back by Hear. When it is destroyed, its streams are
// cancelled.
class Attempt {
 public:
  struct GroupFound {
    int attempt = 0, group = 0;
  };
  struct GivenUp {
    int attempt = 0;
  };
  struct LoadSeen {
    int attempt = 0, place = 0;
    GroupLoad load;
  };
  struct PlaceEnded {
    int attempt = 0, place = 0;
    FamilyTotals totals;
  };
  struct PlaceLost {
    int attempt = 0, place = 0;
    absl::Status why;
  };
  using News = std::variant<GroupFound, GivenUp, LoadSeen, PlaceEnded, PlaceLost>;
  using What = decltype(Event::what);
  // Called from any thread. Events of one stream come in order.
  using Post = std::function<void(std::variant<What, News>)>;

  // All outlive it.
  struct Parts {
    Fleet& fleet;
    TimerThread& timers;
    Clock& clock;
    absl::Duration patience;  // With the fleet, until all places are found.
  };
  // `question` says what is known of the prompt. `wants_load`: the groups' loads are told.
  Attempt(const Parts& parts, OpenRun open, const PlacementQuestion& question, bool wants_load,
          Post post);
  ~Attempt();
  Attempt(const Attempt&) = delete;
  Attempt& operator=(const Attempt&) = delete;

  int number() const { return open_.attempt; }
  // What has happened to the attempt with this; nothing: it goes on, or the news is another's.
  // PlacementFailed, FamilyEnded and Lost are its last: it has to be destroyed then.
  std::optional<What> Hear(const News& news);
  // REQUIRES: it was placed.
  void Add(AddGang command);
  void Cancel(CancelAgents command);
  void RunTo(RaiseRunTo command);
  void Finish(int place);

 private:
  class Stream;

  std::optional<What> Visit(const GroupFound& found);
  std::optional<What> Visit(const GivenUp& late);
  std::optional<What> Visit(const LoadSeen& seen);
  std::optional<What> Visit(const PlaceEnded& ended);
  std::optional<What> Visit(const PlaceLost& lost);
  std::optional<What> EndIfOver();
  void Seek();
  What OpenAll();
  void Open(size_t place);
  FamilyRun* RunOf(int place) const;

  const Parts parts_;
  OpenRun open_;
  PlacementQuestion question_;
  const bool wants_load_;
  const Post post_;

  std::unique_ptr<Fleet::Waiting> waiting_;
  TimerThread::Id timer_ = 0;
  std::vector<int> groups_;  // Of the places that are found.
  std::vector<GroupRoom> rooms_;
  std::vector<std::unique_ptr<FamilyRun>> runs_;
  std::vector<bool> finished_;  // Of the runs.
  int ended_ = 0;
  FamilyTotals totals_;               // Of those that ended.
  std::optional<absl::Status> lost_;  // One that was finished was lost.
};

}  // namespace conclave::router
