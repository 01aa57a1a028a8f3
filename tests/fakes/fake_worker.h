#pragma once

#include <absl/base/thread_annotations.h>
#include <absl/synchronization/mutex.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "router/fleet/worker_client.h"

namespace conclave::router {

// What an agent of a fake worker says: one token for each piece of text.
struct FakeSpeech {
  std::vector<std::string> thinking, answer;

  size_t size() const { return thinking.size() + answer.size(); }
};

// A worker group in memory. It accepts every gang, and each of its agents says what `speech` gives
// for its id, on a thread of the worker's own; an agent that was cut off by a loss goes on where
// its tokens end. Of likely tokens it tells the drawn one, again and again. Thread-safe.
class FakeWorker : public WorkerClient {
 public:
  FakeWorker(GroupDescription description, int credits, std::function<FakeSpeech(AgentId)> speech);
  ~FakeWorker() override;

  std::unique_ptr<FamilyRun> Open(FamilyOpening opening,
                                  std::shared_ptr<FamilyEvents> events) override;
  std::unique_ptr<GroupWatch> Watch(GroupEvents& events) override;
  // A token for each byte of the messages.
  void Count(PromptQuestion question, std::function<void(absl::StatusOr<int>)> done) override;
  void Render(PromptQuestion question, std::function<void(absl::StatusOr<Prompt>)> done) override;

  // From now on an agent waits after this many tokens of its own; agents that wait go on up to it.
  void HoldAfter(int tokens);
  void Release() { HoldAfter(1 << 30); }
  // Every open family is lost, with this reason.
  void Lose(const absl::Status& why);
  // The group says that it can take this many agents now.
  void ReportCredits(int credits);
  // The next gang is refused, once for each call.
  void RefuseNext(absl::Status why, int width);

  // Waits until it holds; false after a minute.
  bool AwaitOpenFamilies(int count);
  bool AwaitTokens(int64_t count);  // That all agents together have said, at least.

  std::vector<FamilyOpening> openings() const;
  std::vector<AgentRecipe> recipes() const;  // Of all agents, in order of arrival.
  std::vector<AgentId> cancelled() const;

 private:
  class Run;
  class Watcher;
  struct Speaker;
  struct Family;

  void Work();
  void Post(std::function<void()> task);
  void Add(const std::shared_ptr<Family>& family, std::vector<AgentRecipe> gang);
  void Speak(Family& family);
  void EndIfOver(Family& family);
  GroupLoad LoadOf(int credits) const;
  bool Ready() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return ending_ || !tasks_.empty(); }

  const GroupDescription description_;
  const int credits_;
  const std::function<FakeSpeech(AgentId)> speech_;

  mutable absl::Mutex mutex_;
  std::deque<std::function<void()>> tasks_ ABSL_GUARDED_BY(mutex_);
  bool ending_ ABSL_GUARDED_BY(mutex_) = false;
  int open_ ABSL_GUARDED_BY(mutex_) = 0;
  int64_t said_ ABSL_GUARDED_BY(mutex_) = 0;
  std::vector<FamilyOpening> openings_ ABSL_GUARDED_BY(mutex_);
  std::vector<AgentRecipe> recipes_ ABSL_GUARDED_BY(mutex_);
  std::vector<AgentId> cancelled_ ABSL_GUARDED_BY(mutex_);
  std::deque<std::pair<absl::Status, int>> refusals_ ABSL_GUARDED_BY(mutex_);
  absl::Mutex watch_mutex_;
  GroupEvents* watcher_ ABSL_GUARDED_BY(watch_mutex_) = nullptr;  // Null: nobody watches.
  int hold_after_ = 1 << 30;                                      // Of the worker's thread.
  std::vector<std::weak_ptr<Family>> families_;                   // So are these.
  std::thread thread_;                                            // Last: it uses the others.
};

}  // namespace conclave::router
