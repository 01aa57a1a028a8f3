#pragma once

#include <absl/time/time.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "worker/group/patience.h"
#include "worker/group/rank_cell.h"

namespace conclave::worker {

struct JudgeLimits {
  absl::Duration first_beat = absl::Seconds(30);  // From the process's start, until it is ready.
  // From a rank's last beat to the verdict, at most: ticks are counted so that this holds although
  // they look only now and then, and come a little late on a busy machine.
  absl::Duration beat = absl::Seconds(1);
  absl::Duration loop = absl::Seconds(5);    // The same for a loop, beside the running step.
  absl::Duration ready = absl::Minutes(30);  // From the start until the weights are loaded.

  bool operator==(const JudgeLimits&) const = default;
};

// "signal 9 (SIGKILL)".
std::string SignalName(int signal);

// How a process ended.
struct RankExit {
  int code = 0;    // When signal is 0.
  int signal = 0;  // 0: it exited by itself.
};

// What the launcher sees of a rank at one moment.
struct RankSight {
  int pid = 0;
  std::optional<RankExit> exit = {};
  bool stopped = false;         // By SIGSTOP, as long as nobody lets it go on.
  std::string last_words = {};  // Of a rank that exited; empty when it said none.
  bool ready = false;
  uint64_t beat = 0;
  uint64_t step_begun = 0, step_done = 0;
  absl::Duration step_patience = {};  // Of step_begun.
  uint64_t engine_turns = 0, service_turns = 0;
};

RankSight LookAt(const RankCell& cell);

// Why a group must end.
struct Loss {
  int rank = 0;
  std::string reason;  // "rank 1 (pid 123) was killed by signal 9"
};

// The exited process that is rather the cause: one that was killed by a signal before one that
// exited by itself, then the lowest rank. nullopt when all run, or only ended for a peer's sake
// (kPeerLostExit): what became of that peer may not be known here yet.
std::optional<Loss> FindExit(const std::vector<RankSight>& ranks);

// Decides when a group is lost. Pure: a turn is one tick of the launcher, in which it looked at
// every rank, and all silence is counted in turns. So a pause of the whole machine, or of the
// launcher, is at most one turn of silence and kills nobody. A new judge for each epoch.
class Judge {
 public:
  // REQUIRES: tick > 0.
  Judge(int tp, absl::Duration tick, const JudgeLimits& limits);

  // One tick has passed. `ranks` has tp elements. An exit is rather the cause than a silence, and
  // one for a peer's sake is none until `beat` is over.
  std::optional<Loss> Turn(const std::vector<RankSight>& ranks);

  // How many ticks in a row without a sign of life are a silence of `limit`.
  static int64_t TicksOfSilence(absl::Duration limit, absl::Duration tick);

 private:
  struct Watch {
    Stillness beat, step, engine, service;
    int64_t turns = 0;          // Since the process started.
    int64_t stopped_turns = 0;  // Since it was seen to be stopped.
    int64_t ended_turns = 0;    // Since it ended for a peer's sake.
  };
  std::optional<std::string> Complaint(const RankSight& sight, Watch& watch) const;
  std::optional<std::string> LoopComplaint(const RankSight& sight, Watch& watch) const;

  const absl::Duration tick_;
  const JudgeLimits limits_;
  std::vector<Watch> watches_;
};

}  // namespace conclave::worker
