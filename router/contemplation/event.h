#pragma once

#include <absl/status/status.h>
#include <absl/time/time.h>

#include <string>
#include <variant>
#include <vector>

#include "common/family.h"
#include "router/contemplation/client_event.h"

// What Contemplation is told, and what it wants done. An *attempt* is one family stream on one
// group, or, for agents of several models, on one group of each: it is placed, lost and ends as a
// whole. Attempts count up from 1, at most one is alive. Events of an attempt that was closed or
// lost are ignored, so the driver need not filter them.
namespace conclave::router {

// The first event. The deadline runs from its time.
struct Started {};
// A group took the attempt; its stream is open. `credits`: agents that it can take now; `running`:
// those that it runs for others; `places`: those that it can run at a time, 0 where it is not
// known. `words`: which group, for people ("group 127.0.0.1:7001 serves as epoch 4"). Of several
// groups: each fingerprint in the order of OpenRun's places, and the numbers of JointRoom
// (width.h).
struct Placed {
  int attempt = 0;
  std::string fingerprint;
  std::vector<std::string> beside = {};  // Fingerprints of the places behind the first one.
  int credits = 0;
  int running = 0;
  int places = 0;
  std::string words;
};
// No group will take the attempt (the driver gave up waiting, or nobody has the fingerprint).
struct PlacementFailed {
  int attempt = 0;
  absl::Status why;
};
// The attempt's group can take this many agents now, and runs so many, this family's included, of
// so many that it can run at a time.
// Optional: agents that wait are also tried again after retry_wait.
struct CreditsChanged {
  int attempt = 0;
  int credits = 0;
  int running = 0;
  int places = 0;
};
// The answers to AddGang, in its order.
// `place`: of the attempt's, who says it.
struct Accepted {
  int attempt = 0;
  std::vector<AcceptedAgent> agents;
  int place = 0;
};
struct Refused {
  int attempt = 0;
  std::vector<AgentId> agents;
  absl::Status why;
  int width = 0;  // kOutOfRange: how many of these would fit.
  int place = 0;
};
struct Delta {
  int attempt = 0;
  FamilyDelta delta;
  int place = 0;
};
// A copy of an agent answered.
struct Probed {
  int attempt = 0;
  ProbeResult result;
  int place = 0;
};
// The stream (of each place) ended well, after FinishRun.
struct FamilyEnded {
  int attempt = 0;
  FamilyTotals totals;
};
// The stream ended otherwise; `why` in words for the client.
struct Lost {
  int attempt = 0;
  absl::Status why;
  int place = 0;
};
// Time went by: due after WakeAt, harmless at any time.
struct Tick {};
// The request ends as soon as it is known what it cost.
struct ClientGone {};
// Somebody asked for the best answer so far.
struct StopRequested {};

struct Event {
  absl::Time at;  // When it happened; never goes back (an earlier time counts as the latest one).
  std::variant<Started, Placed, PlacementFailed, CreditsChanged, Accepted, Refused, Delta, Probed,
               FamilyEnded, Lost, Tick, ClientGone, StopRequested>
      what;
};

// A group of `model` that can take `agents` agents now, or so many as they are worth at its load
// (width.h; at least `least`). `fingerprint`, when set, is the only one that will do. `share` of
// all `shares` parts of the family are meant for it.
struct PlaceWanted {
  std::string model = {};
  std::string fingerprint = {};
  int agents = 1;
  int least = 1;
  int share = 1, shares = 1;
};
// Find all places, wait for those that there are not, and open a stream on each; their fingerprints
// are the openings'. Answered by Placed or PlacementFailed. The former attempt is closed, lost or
// has ended.
struct OpenRun {
  int attempt = 0;
  std::vector<PlaceWanted> places;  // Not empty.
  FamilyOpening opening;
};
// `place`: of the attempt's, from 0.
struct AddGang {
  int attempt = 0;
  int place = 0;
  std::vector<AgentRecipe> agents;
};
struct CancelAgents {
  int attempt = 0;
  int place = 0;
  std::vector<AgentId> agents;
};
struct RaiseRunTo {
  int attempt = 0;
  int place = 0;
  std::vector<AgentId> agents;
  std::vector<int> counts;
};
// No agent will follow and nothing more will be sent there: half-close. With the last of its places
// the attempt is finished: it ends well, or is lost, when all of them have; what is lost of those
// that were finished before is told then.
struct FinishRun {
  int attempt = 0;
  int place = 0;
};
// Cancel the stream, or the wait for a place.
struct CloseRun {
  int attempt = 0;
};
struct Emit {
  ClientEvent event;
};
// Send a Tick at this time. Replaces the last WakeAt; InfiniteFuture: none is needed.
struct WakeAt {
  absl::Time time;
};
// Terminal: status OK, after the Emit of Completed.
struct Succeed {};
// Terminal: this status, never OK.
struct Fail {
  absl::Status why;
  Bill bill;
};

using Command = std::variant<OpenRun, AddGang, CancelAgents, RaiseRunTo, FinishRun, CloseRun, Emit,
                             WakeAt, Succeed, Fail>;

}  // namespace conclave::router
