#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>
#include <absl/time/time.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tests/chaos/asker.h"

namespace conclave {

// What became of the requests of one on_loss.
struct Outcomes {
  int asked = 0;
  int met_a_loss = 0;       // Their stream told of one.
  int resumed = 0;          // They went on with the same text, times.
  int from_the_rest = 0;    // Answered by the agents that were there.
  int replayed = 0;         // Of those: run again to the same bytes.
  int failed_as_asked = 0;  // UNAVAILABLE, as their on_loss says.
  // Their router went away with them, or a new one, which knew no group yet, refused them at the
  // door.
  int asked_again = 0;
  int lost = 0, doubled = 0, different = 0;
  std::vector<std::string> faults;  // In words.
};

// Clients that ask until told to stop, and compare every answer with the one of an undisturbed run.
class Load {
 public:
  // Asks every question once, undisturbed, then starts the clients.
  Load(const std::string& address, int clients);
  ~Load();

  // Every client ends what it asks. By on_loss: RESUME, CONTINUE, FAIL.
  const std::vector<Outcomes>& Stop();

  // Deltas that anybody read.
  int64_t progress() const { return progress_.load(); }
  // Requests that ended.
  int64_t answers() const { return answers_.load(); }
  // Whether each client has read a delta, or ended a request, since the last call of Mark.
  bool EachMoved() const;
  // A kill is about to happen: from now on the first word of a loss that reaches a client counts.
  void Mark();
  // When the first client heard of a loss, or of its router's end; nullopt: none has.
  std::optional<absl::Time> first_word() const;
  // A router was killed: requests that it served may be asked again.
  void RouterGoes() { ++routers_gone_; }

 private:
  void Run(int client);
  Seen AskUntilAnswered(Asker& asker, const v1::GenerateRequest& request, int client,
                        Outcomes& outcomes);
  void Judge(Asker& asker, int question, const Seen& seen, int client, Outcomes& outcomes);
  void JudgeRest(Asker& asker, int question, const Seen& seen, int client, Outcomes& outcomes);
  void Note(const v1::GenerateResponse& event, int client);
  void NoteWord();
  Outcomes& OutcomesOf(const v1::GenerateRequest& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string address_;
  std::vector<Seen> undisturbed_;
  std::atomic<int64_t> progress_{0}, answers_{0};
  std::vector<std::atomic<int64_t>> moves_, marks_;
  std::atomic<int64_t> first_word_ns_{0};
  std::atomic<int> routers_gone_{0};
  std::atomic<bool> stop_{false};

  absl::Mutex mutex_;
  std::vector<Outcomes> outcomes_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> threads_;  // Last: they use all of the above.
};

}  // namespace conclave
